// A certified OAuth2 and OpenID server that is not ours (panva/node-oidc-provider), with faults on demand.
// Environment: NODE_MODULES_DIR, TLS_CERT, TLS_KEY, REDIRECT_URIS. Prints "READY <issuer>" once it listens.
import https from 'node:https';
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const env = process.env;
// imports of modules ignore NODE_PATH: resolve from the folder that we are told
const require = createRequire(path.join(env.NODE_MODULES_DIR, 'x.js'));
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));

const DEFAULTS = { accessTtl: 3600, refreshTtl: 86400, rotate: true, fail: null, delayMs: 0, tokenCalls: 0 };
const knobs = { ...DEFAULTS };

// The built-in adapter forgets all but 1,000 objects, and with them refresh tokens of earlier logins: keep everything.
const objects = new Map();
const grants = new Map();
const uids = new Map();
class Everything {
  constructor(name) { this.name = name; }
  key(id) { return `${this.name}:${id}`; }
  async upsert(id, payload) {
    objects.set(this.key(id), payload);
    if (payload.grantId && ['AccessToken', 'RefreshToken', 'AuthorizationCode'].includes(this.name)) {
      if (!grants.has(payload.grantId)) grants.set(payload.grantId, new Set());
      grants.get(payload.grantId).add(this.key(id));
    }
    if (this.name === 'Session') uids.set(payload.uid, id);
  }
  async find(id) { return objects.get(this.key(id)); }
  async findByUid(uid) { return this.find(uids.get(uid)); }
  async findByUserCode() { return undefined; }
  async destroy(id) { objects.delete(this.key(id)); }
  async consume(id) {
    const payload = objects.get(this.key(id));
    if (payload) payload.consumed = Math.floor(Date.now() / 1000);
  }
  async revokeByGrantId(grant) {
    for (const key of grants.get(grant) ?? []) objects.delete(key);
    grants.delete(grant);
  }
}

let answer = (_request, response) => { response.statusCode = 503; response.end(); };
const tls = { cert: fs.readFileSync(env.TLS_CERT), key: fs.readFileSync(env.TLS_KEY) };
const server = https.createServer(tls, (request, response) => answer(request, response));
await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
const issuer = `https://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  adapter: Everything,
  clients: [{
    client_id: 'flow8',
    client_secret: 'flow8-secret-of-the-tests',
    redirect_uris: env.REDIRECT_URIS.split(','),
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    scope: 'openid profile email offline_access chat:write files:write',
  }],
  scopes: ['openid', 'offline_access', 'chat:write', 'files:write'],
  claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'] },
  findAccount: (_ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: id, email: `${id}@example.test`, email_verified: true }),
  }),
  cookies: { keys: ['test-only'] },
  clockTolerance: 0, // else expired tokens stay usable for 15 s
  pkce: { required: () => true },
  rotateRefreshToken: () => knobs.rotate,
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  ttl: {
    AccessToken: () => knobs.accessTtl, RefreshToken: () => knobs.refreshTtl, AuthorizationCode: 60,
    IdToken: 3600, Interaction: 600, Session: 86400, Grant: 86400,
  },
  features: {
    devInteractions: { enabled: true }, // built-in login and consent pages; any name passes
    revocation: { enabled: true, allowedPolicy: () => true },
    introspection: { enabled: true, allowedPolicy: () => true },
    userinfo: { enabled: true },
  },
});
provider.on('server_error', (_ctx, error) => console.error('server_error', error.message));

const body = (ctx) => new Promise((read) => {
  let text = '';
  ctx.req.on('data', (part) => { text += part; });
  ctx.req.on('end', () => read(text ? JSON.parse(text) : {}));
});

// the control address, and faults in front of the token endpoint
provider.use(async (ctx, next) => {
  if (ctx.path === '/__control') {
    const patch = await body(ctx);
    if (patch.reset) Object.assign(knobs, DEFAULTS);
    if (patch.revokeGrantOf) { // the user presses "remove this app"
      const token = await provider.RefreshToken.find(patch.revokeGrantOf, { ignoreExpiration: true });
      if (token) for (const kind of ['AccessToken', 'RefreshToken']) await provider[kind].revokeByGrantId(token.grantId);
    }
    for (const name of Object.keys(DEFAULTS)) if (name in patch) knobs[name] = patch[name];
    ctx.body = knobs;
    return;
  }
  if (ctx.path === '/token') {
    knobs.tokenCalls += 1;
    if (knobs.delayMs) await new Promise((over) => { setTimeout(over, knobs.delayMs); });
    if (knobs.fail && knobs.fail.times > 0) {
      knobs.fail.times -= 1;
      ctx.status = knobs.fail.status ?? 400;
      ctx.set(knobs.fail.headers ?? {});
      ctx.body = knobs.fail.body ?? { error: knobs.fail.error };
      return;
    }
  }
  await next();
});

answer = provider.callback();
console.log(`READY ${issuer}`);
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
