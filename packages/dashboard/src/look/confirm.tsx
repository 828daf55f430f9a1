/** Asks before something is done that cannot be undone, and shows why it was refused. @module */
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { ApiError } from '../api.js';
import { problemOf } from '../live/use-loaded.js';
import { Problem } from './parts.js';

export interface Question {
  readonly title: string;
  readonly text: string;
  readonly action: string;
  readonly run: () => Promise<unknown>;
}

interface ConfirmProps {
  readonly question: Question | undefined;
  readonly close: () => void;
}

export function Confirm({ question, close }: ConfirmProps): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<ApiError>();
  useEffect(() => {
    setProblem(undefined);
    setBusy(false);
    if (question !== undefined) dialog.current?.showModal();
    else dialog.current?.close();
  }, [question]);
  const act = async (): Promise<void> => {
    setBusy(true);
    try {
      await question?.run();
      close();
    } catch (cause) {
      setProblem(problemOf(cause));
      setBusy(false);
    }
  };
  return (
    <dialog ref={dialog} onClose={close} aria-labelledby="confirm-title">
      <h2 id="confirm-title">{question?.title}</h2>
      <p>{question?.text}</p>
      {problem === undefined ? null : <Problem problem={problem} />}
      <div class="actions">
        <button type="button" onClick={close}>
          Keep as it is
        </button>
        <button type="button" class="danger" disabled={busy} onClick={() => void act()}>
          {question?.action}
        </button>
      </div>
    </dialog>
  );
}
