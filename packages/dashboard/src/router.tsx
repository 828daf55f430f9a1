/** Addresses of the page, without a reload. @module */
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

const MOVED = 'patchbay:moved';

export function go(to: string, replace = false): void {
  if (replace) history.replaceState(null, '', to);
  else history.pushState(null, '', to);
  dispatchEvent(new Event(MOVED));
}

/** Path and query of now. */
export function useAddress(): URL {
  const [href, set] = useState(location.href);
  useEffect(() => {
    const moved = (): void => set(location.href);
    addEventListener('popstate', moved);
    addEventListener(MOVED, moved);
    return () => {
      removeEventListener('popstate', moved);
      removeEventListener(MOVED, moved);
    };
  }, []);
  return new URL(href);
}

type LinkProps = Omit<JSX.IntrinsicElements['a'], 'href'> & {
  readonly to: string;
  readonly children: ComponentChildren;
};

/** A link within the page; a click with a key held opens it as the browser would. */
export function Link({ to, children, ...others }: LinkProps): JSX.Element {
  const follow = (event: MouseEvent): void => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    go(to);
    scrollTo(0, 0);
  };
  return (
    <a {...others} href={to} onClick={follow}>
      {children}
    </a>
  );
}
