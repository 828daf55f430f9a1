/** A long list of rows of one height, of which only those in view exist. Arrow keys walk, Home and End jump. @module */
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

interface VirtualListProps<T> {
  readonly items: readonly T[];
  readonly rowHeight: number;
  readonly height: number;
  readonly label: string;
  readonly keyOf: (item: T) => string;
  readonly row: (item: T, active: boolean) => JSX.Element;
  readonly open: (item: T) => void;
  /** Called when the end comes near. */
  readonly more: () => void;
}

const AROUND = 8;

export function VirtualList<T>(props: VirtualListProps<T>): JSX.Element {
  const { items, rowHeight, height, label, keyOf, row, open, more } = props;
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [active, setActive] = useState(0);
  const first = Math.max(0, Math.floor(top / rowHeight) - AROUND);
  const last = Math.min(items.length, Math.ceil((top + height) / rowHeight) + AROUND);
  useEffect(() => {
    if (last >= items.length - AROUND) more();
  }, [last, items.length]);
  const walk = (to: number): void => {
    const next = Math.min(items.length - 1, Math.max(0, to));
    setActive(next);
    const at = next * rowHeight;
    const view = box.current!;
    if (at < view.scrollTop) view.scrollTop = at;
    if (at + rowHeight > view.scrollTop + height) view.scrollTop = at + rowHeight - height;
  };
  const onKey = (event: KeyboardEvent): void => {
    const page = Math.floor(height / rowHeight);
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    const step = steps[event.key];
    if (step !== undefined) walk(active + step);
    else if (event.key === 'Home') walk(0);
    else if (event.key === 'End') walk(items.length - 1);
    else if (event.key === 'Enter' && event.target === box.current && items[active] !== undefined) open(items[active]);
    else return;
    event.preventDefault();
  };
  const id = (index: number): string => `row-${index}`;
  return (
    <div
      class="virtual"
      ref={box}
      style={{ height: `${height}px` }}
      tabIndex={0}
      role="listbox"
      aria-label={label}
      aria-activedescendant={items.length > 0 ? id(active) : undefined}
      onScroll={() => setTop(box.current!.scrollTop)}
      onKeyDown={onKey}
    >
      <div role="presentation" style={{ height: `${items.length * rowHeight}px` }} class="virtual-inner">
        {items.slice(first, last).map((item, offset) => {
          const index = first + offset;
          return (
            <div
              key={keyOf(item)}
              id={id(index)}
              role="option"
              aria-selected={index === active}
              aria-setsize={items.length}
              aria-posinset={index + 1}
              class={index === active ? 'row active' : 'row'}
              style={{ top: `${index * rowHeight}px`, height: `${rowHeight}px` }}
              onClick={() => open(item)}
            >
              {row(item, index === active)}
            </div>
          );
        })}
      </div>
    </div>
  );
}
