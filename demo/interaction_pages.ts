import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Provider } from 'oidc-provider';
import type { AuthRecorder } from '../instrumentation/index.ts';
import type { Subject } from './population.ts';

/** A sign-in form is a few hundred bytes. */
const FORM_BYTES_MAX = 10_000;

type Middleware = Parameters<Provider['use']>[0];
type Context = Parameters<Middleware>[0];
type Details = Awaited<ReturnType<Provider['interactionDetails']>>;

/** The pages where a person signs in and consents: `/interaction/<uid>`, in front of oidc-provider. */
export function interactionPages(
  provider: Provider,
  subjects: readonly Subject[],
  recorder: AuthRecorder,
): Middleware {
  const passwords = new Map(subjects.map((s) => [s.username, digest(s.password)]));
  return async (ctx, next) => {
    if (!/^\/interaction\/[\w-]+$/.test(ctx.path)) {
      await next();
      return;
    }
    ctx.set('cache-control', 'no-store');
    const details = await provider.interactionDetails(ctx.req, ctx.res);
    if (ctx.method === 'GET') {
      page(ctx, details.prompt.name === 'login' ? loginForm(ctx.path) : consentForm(ctx.path));
      return;
    }
    const form = await readForm(ctx.req);
    const finish = async (result: Parameters<Provider['interactionResult']>[2]): Promise<void> => {
      ctx.status = 303;
      ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result));
    };
    if (details.prompt.name === 'login')
      await logIn(ctx, details, form, passwords, recorder, finish);
    else if (form.get('decision') === 'allow') {
      await finish({ consent: { grantId: await saveGrant(provider, details) } });
    } else {
      await finish({ error: 'access_denied', error_description: 'End-User aborted interaction' });
    }
  };
}

async function logIn(
  ctx: Context,
  details: Details,
  form: URLSearchParams,
  passwords: ReadonlyMap<string, Buffer>,
  recorder: AuthRecorder,
  finish: (result: Parameters<Provider['interactionResult']>[2]) => Promise<void>,
): Promise<void> {
  const username = form.get('username') ?? '';
  const expected = passwords.get(username);
  const given = digest(form.get('password') ?? '');
  if (expected !== undefined && timingSafeEqual(expected, given)) {
    await finish({ login: { accountId: username, amr: ['pwd'] } });
    return;
  }
  recorder.record({
    kind: 'login_failed',
    outcome: 'failure',
    error: { code: 'invalid_credentials' },
    endpoint: 'interaction',
    ...(typeof details.params['client_id'] === 'string'
      ? { client: { id: details.params['client_id'] } }
      : {}),
    ...(expected === undefined ? {} : { subject: { id: username, type: 'user' } }),
    net: { client_ip: ctx.ip, ip_role: 'end_user', user_agent: ctx.get('user-agent') },
    http: { method: 'POST', route: '/interaction/:uid', status: 200 },
  });
  page(ctx, loginForm(ctx.path));
}

/** Grants what the person was asked for, on top of what they granted this client before. */
async function saveGrant(provider: Provider, details: Details): Promise<string> {
  const accountId = details.session?.accountId;
  const clientId = details.params['client_id'];
  if (accountId === undefined || typeof clientId !== 'string') {
    throw new Error('consent without a signed-in person or a client');
  }
  const known =
    details.grantId === undefined ? undefined : await provider.Grant.find(details.grantId);
  const grant = known ?? new provider.Grant({ accountId, clientId });
  const asked = details.prompt.details as {
    missingOIDCScope?: string[];
    missingOIDCClaims?: string[];
    missingResourceScopes?: Record<string, string[]>;
  };
  if (asked.missingOIDCScope !== undefined) grant.addOIDCScope(asked.missingOIDCScope.join(' '));
  if (asked.missingOIDCClaims !== undefined) grant.addOIDCClaims(asked.missingOIDCClaims);
  for (const [resource, scopes] of Object.entries(asked.missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  return grant.save();
}

function loginForm(action: string): string {
  return `<form method="post" action="${action}"><input name="username"><input name="password" type="password"><button>Sign in</button></form>`;
}

function consentForm(action: string): string {
  return `<form method="post" action="${action}"><input type="hidden" name="decision" value="cancel"><button>Allow</button></form>`;
}

function page(ctx: Context, body: string): void {
  ctx.status = 200;
  ctx.type = 'html';
  ctx.body = `<!doctype html><title>Harbour sign-in</title>${body}`;
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

async function readForm(request: IncomingMessage): Promise<URLSearchParams> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > FORM_BYTES_MAX) throw new Error(`form: more than ${FORM_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString('utf8'));
}
