import type { JSX } from 'preact';
import { getText, useLoaded } from '../api_client.ts';
import { Waiting } from '../parts/frames.tsx';
import { Markdown } from '../parts/markdown.tsx';

export function Runbook({ id }: { readonly id: string }): JSX.Element {
  const { data, error } = useLoaded<string>(
    `api/v1/runbooks/${encodeURIComponent(id)}`,
    undefined,
    getText,
  );
  return data === undefined ? <Waiting error={error} /> : <Markdown text={data} />;
}
