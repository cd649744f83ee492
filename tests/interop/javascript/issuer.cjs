// An OpenID provider that signs tokens of clients, and of a person who may look at things. Prints its address; each line of standard input is a new key.
const readline = require('node:readline');
const { Events, OAuth2Server } = require('oauth2-mock-server');

(async () => {
  const server = new OAuth2Server();
  await server.issuer.keys.generate('RS256');
  server.service.on(Events.BeforeTokenSigning, (token, request) => {
    const { grant_type: grant, client_id: name, roles } = request.body;
    if (grant === 'client_credentials') {
      Object.assign(token.payload, { sub: name, realm_access: { roles: (roles || '').split(' ') } });
    } else {
      Object.assign(token.payload, { aud: token.payload.aud ?? 'gateway', realm_access: { roles: ['viewer'] } });
    }
  });
  await server.start(0, '127.0.0.1');
  server.issuer.url = `http://127.0.0.1:${server.address().port}`;
  console.log(server.issuer.url);
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    console.log((await server.issuer.keys.generate('RS256')).kid);
  }
  await server.stop();
})();
