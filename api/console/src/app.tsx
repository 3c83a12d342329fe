import { useEffect, useRef } from 'preact/hooks';
import type { JSX } from 'preact';
import { isHelpOpen, SHORTCUTS } from './keyboard.ts';
import { liveState } from './live.ts';
import { BoardPage, Boards } from './pages/boards.tsx';
import { Clients } from './pages/clients.tsx';
import { EventPage, Events } from './pages/events.tsx';
import { FindingPage } from './pages/finding.tsx';
import { Findings } from './pages/findings.tsx';
import { Investigation } from './pages/investigation.tsx';
import { Overview } from './pages/overview.tsx';
import { Runbook } from './pages/runbook.tsx';
import { Silences } from './pages/silences.tsx';
import { SloPage, Slos } from './pages/slos.tsx';
import { Empty } from './parts/frames.tsx';
import { Mark } from './parts/marks.tsx';
import { SearchBox } from './parts/search_box.tsx';
import { href, place } from './router.ts';
import { applyTheme, THEMES, theme } from './theme.ts';

const NAVIGATION: readonly (readonly [string, string])[] = [
  ['', 'Overview'],
  ['findings', 'Findings'],
  ['slos', 'Service levels'],
  ['boards', 'Boards'],
  ['silences', 'Silences'],
  ['clients', 'Clients'],
];

const LIVE_WORDS = { connecting: 'connecting', live: 'live', lost: 'connection lost' } as const;

export function App(): JSX.Element {
  const { path } = place.value;
  const main = useRef<HTMLElement>(null);
  const key = path.join('/');
  const isFirst = useRef(true);
  useEffect(() => {
    document.title = `${titleOf(path)} · Grantscope`;
    // A new place is read from its top, by eye and by screen reader.
    if (!isFirst.current) {
      main.current?.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    isFirst.current = false;
  }, [key]);
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to content
      </a>
      <TopBar current={path[0] ?? ''} />
      <main id="main" ref={main} tabIndex={-1}>
        <Page key={key} path={path} />
      </main>
      <Help />
    </>
  );
}

function titleOf(path: readonly string[]): string {
  const name = NAVIGATION.find(([id]) => id === (path[0] ?? ''))?.[1] ?? path[0] ?? '';
  return path.length > 1 ? `${name} ${path.at(-1)?.slice(0, 40) ?? ''}` : name;
}

function Page({ path }: { readonly path: readonly string[] }): JSX.Element {
  const [first, second, third] = path;
  if (first === undefined) return <Overview />;
  if (first === 'findings')
    return second === undefined ? <Findings /> : <FindingPage id={second} />;
  if (first === 'slos') return second === undefined ? <Slos /> : <SloPage id={second} />;
  if (first === 'boards') return second === undefined ? <Boards /> : <BoardPage id={second} />;
  if (first === 'silences') return <Silences />;
  if (first === 'clients') return <Clients />;
  if (first === 'events') return second === undefined ? <Events /> : <EventPage id={second} />;
  if (first === 'runbooks' && second !== undefined) return <Runbook id={second} />;
  if (first === 'investigations' && second !== undefined && third !== undefined)
    return <Investigation type={second} ref_={third} />;
  return (
    <Empty title="There is no such page">
      <p>
        <a href={href([])}>Go to the overview</a>
      </p>
    </Empty>
  );
}

function TopBar({ current }: { readonly current: string }): JSX.Element {
  return (
    <header class="top">
      <a class="brand" href={href([])}>
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <circle cx="14" cy="14" r="8" fill="none" stroke="currentColor" stroke-width="3" />
          <path d="M20 20 27 27" stroke="currentColor" stroke-width="3.6" stroke-linecap="round" />
          <circle cx="14" cy="14" r="2.6" fill="currentColor" />
        </svg>
        Grantscope
      </a>
      <nav aria-label="Pages">
        {NAVIGATION.map(([id, name]) => (
          <a
            key={id}
            href={href(id === '' ? [] : [id], id === 'findings' ? { state: 'open' } : {})}
            {...(current === id ? { 'aria-current': 'page' as const } : {})}
          >
            {name}
          </a>
        ))}
      </nav>
      <SearchBox />
      <div class="top-aside">
        <span class="live" role="status">
          <Mark tone={liveState.value === 'live' ? 'low' : 'info'}>
            {LIVE_WORDS[liveState.value]}
          </Mark>
        </span>
        <ThemeButton />
        <button
          type="button"
          class="quiet"
          aria-label="Keyboard shortcuts"
          onClick={() => {
            isHelpOpen.value = true;
          }}
        >
          ?
        </button>
      </div>
    </header>
  );
}

function ThemeButton(): JSX.Element {
  const at = THEMES.indexOf(theme.value);
  const next = THEMES[(at + 1) % THEMES.length] ?? 'auto';
  return (
    <button
      type="button"
      class="quiet"
      title={`Theme: ${theme.value}; switch to ${next}`}
      onClick={() => applyTheme(next)}
    >
      <span class="unseen">Theme: </span>
      {theme.value}
    </button>
  );
}

function Help(): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const isOpen = isHelpOpen.value;
  useEffect(() => {
    if (isOpen) dialog.current?.showModal();
    else dialog.current?.close();
  }, [isOpen]);
  const close = (): void => {
    isHelpOpen.value = false;
  };
  return (
    <dialog ref={dialog} aria-labelledby="help-title" onClose={close}>
      <h2 id="help-title">Keyboard</h2>
      <dl class="facts">
        {SHORTCUTS.map(([keys, does]) => (
          <div key={keys}>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <button type="button" onClick={close}>
        Close
      </button>
    </dialog>
  );
}
