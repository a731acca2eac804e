// What the examples use of the npm package `redis`, over a connection to a real server: the bytes are what is tested.
import { connect } from "node:net";

const line = (buffer, at) => {
  const end = buffer.indexOf("\r\n", at);
  return end < 0 ? null : [buffer.toString("utf8", at, end), end + 2];
};

// One reply of RESP 2 at `at`: [value, where it ends], or null where it is not all there yet.
const read = (buffer, at = 0) => {
  const first = line(buffer, at);
  if (!first) return null;
  const [head, start] = first;
  const rest = head.slice(1);
  if (head[0] === "-") throw new Error(rest);
  if (head[0] === "+") return [rest, start];
  const count = Number(rest);
  if (head[0] === ":") return [count, start];
  if (count < 0) return [null, start];
  if (head[0] === "$")
    return buffer.length < start + count + 2 ? null : [buffer.toString("utf8", start, start + count), start + count + 2];
  const items = [];
  let end = start;
  for (let index = 0; index < count; index += 1) {
    const item = read(buffer, end);
    if (!item) return null;
    items.push(item[0]);
    end = item[1];
  }
  return [items, end];
};

class Client {
  constructor(url) {
    this.url = new URL(url);
  }

  async connect() {
    this.socket = connect(Number(this.url.port), this.url.hostname);
    await new Promise((done, failed) => this.socket.once("connect", done).once("error", failed));
    if (this.url.password) await this.call("AUTH", this.url.password);
    await this.call("SELECT", this.url.pathname.slice(1) || "0");
    return this;
  }

  call(...words) {
    const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
    this.socket.write(`*${words.length}\r\n${parts.join("")}`);
    return new Promise((done, failed) => {
      let buffer = Buffer.alloc(0);
      const more = (data) => {
        buffer = Buffer.concat([buffer, data]);
        try {
          const reply = read(buffer);
          if (!reply) return;
          done(reply[0]);
        } catch (error) {
          failed(error);
        }
        this.socket.off("data", more);
      };
      this.socket.on("data", more);
    });
  }

  lPush(key, element) {
    return this.call("LPUSH", key, element);
  }

  async brPop(key, seconds) {
    const popped = await this.call("BRPOP", key, String(seconds));
    return popped && { key: popped[0], element: popped[1] };
  }

  async close() {
    this.socket.end();
  }
}

export const createClient = ({ url }) => new Client(url);
