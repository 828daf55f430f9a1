/** What cannot be drawn, such as the result of another version, says so in its place instead of leaving a hole. @module */
import { Component, type ComponentChildren } from 'preact';
import { ApiError } from '../api.js';
import { Problem } from './parts.js';

export class Boundary extends Component<{ readonly children: ComponentChildren }, { readonly cause?: unknown }> {
  static override getDerivedStateFromError(cause: unknown): { readonly cause: unknown } {
    return { cause };
  }

  override render(): ComponentChildren {
    if (!('cause' in this.state)) return this.props.children;
    const message = `this cannot be drawn: ${String(this.state.cause)}`;
    const hint = 'If it stays, the service may be of another version than the page.';
    const problem = new ApiError({ code: 'PB_INTERNAL', message, hint });
    return <Problem problem={problem} retry={() => location.reload()} />;
  }
}
