/** Starts the page: who is there, which page, and the frame around it. @module */
import './no-eval.js';
import { render, type JSX } from 'preact';
import { useEffect } from 'preact/hooks';
import type { Role } from '@patchbay/protocol/http';
import { api, type Session } from './api.js';
import { useChanges, useLive } from './live/use-changes.js';
import { useLoaded } from './live/use-loaded.js';
import { Boundary } from './look/boundary.js';
import { Empty, Problem } from './look/parts.js';
import { choose, startTheme, useTheme } from './look/theme.js';
import { ClusterPage } from './pages/cluster.js';
import { ComparePage } from './pages/compare.js';
import { JobPage } from './pages/job.js';
import { QueuesPage } from './pages/queues.js';
import { SignInPage } from './pages/sign-in.js';
import { Link, go, useAddress } from './router.js';
import './style.css';

function Frame({ session, changed }: { readonly session: Session; readonly changed: () => void }): JSX.Element {
  const { pathname } = useAddress();
  const { name } = useTheme();
  useChanges(() => undefined);
  const live = useLive();
  const here = (path: string): { 'aria-current'?: 'page' } => (pathname === path ? { 'aria-current': 'page' } : {});
  return (
    <>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <header class="top">
        <Link to="/" class="brand">
          <img src="/icon.svg" alt="" width="24" height="24" /> Patchbay
        </Link>
        <nav aria-label="Pages">
          <Link to="/" {...here('/')}>
            Queues
          </Link>
          <Link to="/cluster" {...here('/cluster')}>
            Cluster
          </Link>
          <a href="/queues">Raw queues</a>
        </nav>
        <span class={live ? 'live on' : 'live'} role="status">
          {live ? 'live' : 'connecting'}
        </span>
        {session.role === 'reader' ? <span class="label">read only</span> : null}
        <button type="button" onClick={() => choose(name === 'dark' ? 'light' : 'dark')}>
          {name === 'dark' ? 'Light' : 'Dark'}
        </button>
        {session.required ? (
          <button type="button" onClick={() => void api.signOut().then(changed)}>
            Sign out
          </button>
        ) : null}
      </header>
      <main id="main" tabIndex={-1}>
        <Boundary key={pathname}>
          <Page pathname={pathname} role={session.role ?? 'reader'} />
        </Boundary>
      </main>
    </>
  );
}

function Page({ pathname, role }: { readonly pathname: string; readonly role: Role }): JSX.Element {
  const [, first, id, , other] = pathname.split('/').map(decodeURIComponent);
  const title = first === 'jobs' && id !== undefined ? `Job ${id}` : first === 'cluster' ? 'Cluster' : 'Queues';
  useEffect(() => {
    document.title = `${title} · Patchbay`;
  }, [title]);
  if (pathname === '/' || pathname === '/jobs') return <QueuesPage role={role} />;
  if (pathname === '/cluster') return <ClusterPage role={role} />;
  if (first === 'jobs' && id !== undefined && other !== undefined) return <ComparePage one={id} other={other} />;
  if (first === 'jobs' && id !== undefined) return <JobPage id={id} role={role} key={id} />;
  return (
    <Empty title="There is no such page.">
      <Link to="/">Queues</Link>
    </Empty>
  );
}

function App(): JSX.Element | null {
  const { value: session, problem, refresh } = useLoaded(() => api.session(), [], { pauseMs: 0 });
  const { pathname, searchParams } = useAddress();
  useEffect(() => {
    if (pathname !== '/sign-in' || session?.role == null) return;
    const next = searchParams.get('next');
    if (next === '/queues') location.assign(next);
    else go('/', true);
  }, [pathname, session]);
  if (problem !== undefined && session === undefined)
    return (
      <main class="sign-in">
        <Problem problem={problem} retry={refresh} />
      </main>
    );
  if (session === undefined) return null;
  if (session.role === null) return <SignInPage done={refresh} />;
  return <Frame session={session} changed={refresh} />;
}

startTheme();
render(<App />, document.getElementById('app')!);
