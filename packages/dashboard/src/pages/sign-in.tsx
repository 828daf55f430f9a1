/** Asks for the token of the installation. @module */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { api, type ApiError } from '../api.js';
import { problemOf } from '../live/use-loaded.js';
import { textOf } from '../look/form.js';
import { Problem } from '../look/parts.js';

export function SignInPage({ done }: { readonly done: () => void }): JSX.Element {
  const [problem, setProblem] = useState<ApiError>();
  const submit = (event: JSX.TargetedEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const token = textOf(event.currentTarget, 'token');
    api.signIn(token).then(done, (cause: unknown) => setProblem(problemOf(cause)));
  };
  return (
    <main class="sign-in">
      <form class="card" onSubmit={submit}>
        <h1>Patchbay</h1>
        <p>
          <code>patchbay up --json</code> prints the token. A token that may only look works, too.
        </p>
        <label>
          Token
          <input name="token" type="password" autocomplete="current-password" required autofocus />
        </label>
        {problem === undefined ? null : <Problem problem={problem} />}
        <button type="submit" class="primary">
          Sign in
        </button>
      </form>
    </main>
  );
}
