/** The document, to read and to copy. @module */
import { legible } from '@patchbay/charts';
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { JobDocument } from '../api.js';
import { Card } from '../look/parts.js';
import { KINDS, copyAs, type Kind } from './copy-as.js';

export function Document({ document }: { readonly document: JobDocument }): JSX.Element {
  const [kind, setKind] = useState<Kind>('JSON');
  const [copied, setCopied] = useState(false);
  const text = copyAs(kind, document, location.origin);
  const copy = (): void => {
    void navigator.clipboard.writeText(text).then(() => {
      setCopied(true);
      setTimeout(() => setCopied(false), 2_000);
    });
  };
  return (
    <Card
      title="Document"
      aside={
        <span class="actions">
          <span class="switch" role="group" aria-label="Copy as">
            {KINDS.map((name) => (
              <button type="button" key={name} aria-pressed={name === kind} onClick={() => setKind(name)}>
                {name}
              </button>
            ))}
          </span>
          <button type="button" class="primary" onClick={copy}>
            {copied ? 'Copied' : 'Copy'}
          </button>
        </span>
      }
    >
      <pre class="code" tabIndex={0} aria-label={`Document as ${kind}`}>
        {legible(text)}
      </pre>
    </Card>
  );
}
