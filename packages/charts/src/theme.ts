/** Colours of what is not data. @module */
export interface Theme {
  readonly surface: string;
  readonly ink: string;
  readonly muted: string;
  readonly grid: string;
  readonly accent: string;
}

export const THEMES = {
  light: { surface: '#ffffff', ink: '#1b1f2a', muted: '#5b6275', grid: '#e2e5ee', accent: '#0072b2' },
  dark: { surface: '#141823', ink: '#e8ebf4', muted: '#a2aac0', grid: '#2c3345', accent: '#56b4e9' },
} as const satisfies Record<string, Theme>;
