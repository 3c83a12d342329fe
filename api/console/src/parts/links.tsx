import type { JSX } from 'preact';
import { shortRef } from '../format.ts';
import { href } from '../router.ts';

/** Entities of findings that have an investigation of their own. */
const INVESTIGATIONS: Readonly<Record<string, string>> = {
  token: 'token',
  code: 'token',
  family: 'family',
  client: 'client',
  subject: 'subject',
  session: 'session',
  grant: 'grant',
};

/** The place where an entity can be looked into; undefined where there is none. */
export function placeOf(type: string, ref: string): string | undefined {
  const investigation = INVESTIGATIONS[type];
  if (investigation !== undefined) return href(['investigations', investigation, ref]);
  if (type === 'network') return href(['events'], { network: ref });
  if (type === 'source') return href(['events'], { source_id: ref });
  return undefined;
}

/** An entity by its type and reference, linked where possible. The reference is text from outside. */
export function EntityLink(props: {
  readonly type: string;
  readonly ref_: string;
  readonly full?: boolean;
}): JSX.Element {
  const shown = props.full === true ? props.ref_ : shortRef(props.ref_);
  const to = placeOf(props.type, props.ref_);
  const text = <bdi class="ref">{shown === '' ? '(none)' : shown}</bdi>;
  return to === undefined ? (
    text
  ) : (
    <a href={to} title={props.ref_}>
      {text}
    </a>
  );
}

/** RFC sections and ATT&CK techniques as links to where they are published. */
export function Reference({ text }: { readonly text: string }): JSX.Element {
  const to = addressOf(text);
  return to === undefined ? (
    <span>{text}</span>
  ) : (
    <a href={to} target="_blank" rel="noreferrer noopener">
      {text}
    </a>
  );
}

function addressOf(text: string): string | undefined {
  const rfc = /^RFC (\d{3,5})(?: section (\d+(?:\.\d+)*))?$/i.exec(text);
  if (rfc !== null)
    return `https://www.rfc-editor.org/rfc/rfc${rfc[1] ?? ''}${rfc[2] === undefined ? '' : `#section-${rfc[2]}`}`;
  const technique = /\bT(\d{4})(?:\.(\d{3}))?$/.exec(text);
  if (technique !== null)
    return `https://attack.mitre.org/techniques/T${technique[1] ?? ''}/${technique[2] === undefined ? '' : `${technique[2]}/`}`;
  return undefined;
}
