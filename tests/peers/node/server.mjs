// Node's ws as a peer; tests/peers/__init__.py says what each path does.

import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const PATHS = new Set(["/echo", "/fragments", "/ping", "/close", "/drop", "/closed"]);
const NO_CODE = 1005;
const ends = new Map(); // id -> {promise, resolve} of [code, reason]

function endOf(id) {
  if (!ends.has(id)) {
    const end = {};
    end.promise = new Promise((resolve) => { end.resolve = resolve; });
    ends.set(id, end);
  }
  return ends.get(id);
}

function target(request) {
  const url = new URL(request.url, "ws://peer");
  return { path: url.pathname, query: url.searchParams };
}

function sendInPieces(socket, data, binary, pieces) {
  const size = Math.ceil(data.length / pieces);
  for (let number = 0; number < pieces; number += 1) {
    const piece = data.subarray(number * size, (number + 1) * size);
    socket.send(piece, { binary, fin: number === pieces - 1 });
  }
}

const answers = {
  "/echo": (socket, query, data, binary) => socket.send(data, { binary }),
  "/fragments": (socket, query, data, binary) => sendInPieces(socket, data, binary, Number(query.get("pieces"))),
  "/ping": (socket, query, data) => socket.ping(data),
  "/close": (socket, query, data) => socket.close(Number(query.get("code")), data),
  "/drop": (socket) => socket.terminate(),
  "/closed": async (socket, query) => socket.send(JSON.stringify(await endOf(query.get("of")).promise)),
};

function serve(socket, request) {
  const { path, query } = target(request);
  socket.on("message", (data, binary) => answers[path](socket, query, data, binary));
  socket.on("close", (code, reason) => {
    if (query.has("id")) endOf(query.get("id")).resolve([code || NO_CODE, reason.toString()]);
  });
  // A reset, or a client that breaks the protocol: the close event that follows says what matters.
  socket.on("error", () => {});
  if (path === "/ping") socket.on("pong", (data) => socket.send(`pong ${data}`));
}

function webSocketServer(perMessageDeflate) {
  const verifyClient = (info, decide) => decide(PATHS.has(target(info.req).path), 404, "no such path\n");
  return new WebSocketServer({ noServer: true, perMessageDeflate, verifyClient });
}

const KEEPS_NOTHING = { serverNoContextTakeover: true, clientNoContextTakeover: true };
const SMALL = { serverMaxWindowBits: 9, clientMaxWindowBits: 9 };
const servers = new Map([
  ["", webSocketServer({ threshold: 0 })],
  ["frugal", webSocketServer({ threshold: 0, ...KEEPS_NOTHING, ...SMALL })],
  ["off", webSocketServer(false)],
]);

const http = createServer((request, response) => response.writeHead(426).end("WebSocket only\n"));
http.on("upgrade", (request, socket, head) => {
  const { query } = target(request);
  servers.get(query.get("deflate") ?? "").handleUpgrade(request, socket, head, serve);
});
http.listen(0, "127.0.0.1", () => console.log(`ws://127.0.0.1:${http.address().port}`));
process.stdin.on("end", () => process.exit(0)).resume();
