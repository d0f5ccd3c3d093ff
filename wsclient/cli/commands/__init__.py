"""The commands as ``click`` declares them: options, help, examples. What they do is in the modules beside."""

from __future__ import annotations
