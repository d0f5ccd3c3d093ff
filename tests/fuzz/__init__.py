"""Coverage-guided fuzzing of what a server's bytes reach first, by atheris: ``make fuzz``.

``targets`` says what must hold for any input, ``seeds`` makes the inputs to begin with, ``worker`` is the
process of atheris, ``__main__`` starts one for each target. Inputs that broke something stay in ``crashes``.
``tests/test_fuzz.py`` runs seeds and crashes on every Python, without atheris.
"""
