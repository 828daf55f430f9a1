/** Light or dark: what the system says, unless it was chosen here. @module */
import { THEMES, type Theme } from '@patchbay/charts';
import { useEffect, useState } from 'preact/hooks';

export type ThemeName = keyof typeof THEMES;

const KEY = 'patchbay.theme';
const CHANGED = 'patchbay:theme';
const system = matchMedia('(prefers-color-scheme: dark)');

function chosen(): ThemeName | undefined {
  const name = localStorage.getItem(KEY);
  return name === 'light' || name === 'dark' ? name : undefined;
}

const current = (): ThemeName => chosen() ?? (system.matches ? 'dark' : 'light');

function apply(): void {
  document.documentElement.dataset['theme'] = current();
  dispatchEvent(new Event(CHANGED));
}

export function startTheme(): void {
  apply();
  system.addEventListener('change', apply);
}

export function choose(name: ThemeName): void {
  localStorage.setItem(KEY, name);
  apply();
}

export function useTheme(): { name: ThemeName; theme: Theme } {
  const [name, set] = useState(current());
  useEffect(() => {
    const changed = (): void => set(current());
    addEventListener(CHANGED, changed);
    return () => removeEventListener(CHANGED, changed);
  }, []);
  return { name, theme: THEMES[name] };
}
