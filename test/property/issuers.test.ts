import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Markers } from '../../collector/dead_letters/marker.ts';
import { redactRecord } from '../../collector/dead_letters/redact_record.ts';
import { processDraft } from '../../collector/processors/process_draft.ts';
import { createScrubber } from '../../collector/processors/scrub.ts';
import { loadSources } from '../../collector/registry.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { TEST_KEY } from '../harness.ts';

/**
 * An issuer is a name: two pools, tenants or authorization servers of one provider stay two, in events, attributes and
 * dead letters. What has a secret's name or shape never comes out of one.
 */
const keyRing = KeyRing.fromKey(TEST_KEY);
const scrubber = createScrubber();
const markers = new Markers(keyRing);
const grantscope = (await loadSources()).get('grantscope');

function inEvent(issuer: string): string {
  if (grantscope === undefined) throw new Error('no source grantscope');
  const processed = processDraft(
    { kind: 'login', time: 1_760_000_000_000_000_000n, issuer },
    {
      ...{ source: grantscope, tenant: 'default', receivedAt: 1_760_000_000_000_000_000n },
      ...{ contentSeed: 's', subIndex: 0, keyRing, scrubber, clientIp: 'keep' },
    },
  );
  if (!processed.ok) throw new Error(processed.message);
  return processed.event.issuer;
}

/** Everywhere that an issuer is kept. */
function everywhere(issuer: string): Record<string, string | undefined> {
  const letter = (value: unknown): string =>
    redactRecord({ form: 'json', value }, { scrubber, markers, clientIp: 'keep' }).text;
  const ofLetter = JSON.parse(letter({ iss: issuer, claims: { issuer } })) as {
    iss: string;
    claims: { issuer: string };
  };
  const { attributes } = scrubber.scrubAttributes({ 'oauth.issuer': issuer, iss: issuer });
  return {
    event: inEvent(issuer),
    attribute: attributes['oauth.issuer'],
    claim: attributes['iss'],
    letter: ofLetter.iss,
    nested: ofLetter.claims.issuer,
  };
}

const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
const random = (min: number, max: number) =>
  fc
    .array(fc.constantFrom(...letters.split('')), { minLength: min, maxLength: max })
    .map((c) => c.join(''))
    // By chance a run of letters may read as a marked secret (`eyJ...`); that is the other property's part.
    .filter((text) => !/ey[AIoJ]|^e[wy]|AKIA|ASIA|ABIA|ACCA|AIza|key|dapi|SK/i.test(text));
const paths = fc.oneof(
  random(9, 9).map((id) => `eu-west-1_${id}`),
  random(17, 17).map((id) => `oauth2/aus${id}`),
  fc.uuid().map((id) => `realms/${id}`),
  fc.uuid().map((id) => `${id}/v2.0`),
  random(24, 43),
  random(32, 32).map((id) => `id/${id.toUpperCase()}`),
);
const hosts = fc.constantFrom('as.example.com', 'tenant.idp.example:8443');

describe('an issuer', () => {
  it('keeps its path wherever it is kept', () => {
    fc.assert(
      fc.property(hosts, paths, (host, path) => {
        const issuer = `https://${host}/${path}`;
        for (const [place, kept] of Object.entries(everywhere(issuer)))
          expect([place, kept]).toEqual([place, issuer]);
      }),
      { numRuns: 400 },
    );
  });

  it('never lets out what has a name or a shape of a secret', () => {
    // Digits in every canary, so that none is a word.
    const canaries = random(24, 36).map((text) => `c7${text}9z`);
    fc.assert(
      fc.property(canaries, hosts, paths, fc.nat(), (canary, host, path, choice) => {
        const hidden = hidingPlaces(canary, host, path);
        const issuer = hidden[choice % hidden.length] ?? '';
        for (const [place, kept] of Object.entries(everywhere(issuer)))
          expect([place, issuer, kept?.includes(canary)]).toEqual([place, issuer, false]);
      }),
      { numRuns: 2_000 },
    );
  });
});

/** Made of two parts: nothing in this file may look like a key. */
const PREFIXES = ['gh p_', 'sk _live_', 'xo xb-', 'hv s.', 'gl pat-', 'GO CSPX-'].map((p) =>
  p.replace(' ', ''),
);

function hidingPlaces(c: string, host: string, path: string): string[] {
  const base = `https://${host}/${path}`;
  const base64 = (text: string): string => Buffer.from(text).toString('base64url');
  const jwt = `${base64('{"alg":"none"}')}.${base64(`{"jti":"${c}"}`)}.${c}`;
  return [
    ...[`https://user:${c}@${host}/${path}`, `https://${c}@${host}/${path}`],
    ...[`${base}?code=${c}`, `${base}?x=${c}`, `${base}#${c}`, `${base}?a=1#access_token=${c}`],
    ...[`${base}/client_secret=${c}`, `${base}/code%3D${c}`, `${base};password=${c}`],
    ...[`${base}/${jwt}`, `${base}/Bearer ${c}`, `${base}/Basic%20${base64(`u:${c}`)}`],
    ...PREFIXES.map((prefix) => `${base}/${prefix}${c}`),
    ...[`${base}/${c}@example.com`, `${base}/{"refresh_token":"${c}"}`],
  ];
}
