/** Named sets of hooks, as FlexModel has them: every hook is in `all`, a run takes a union of groups or what is outside. @module */
import { error, nearest } from '@patchbay/protocol';
import { HookFunction } from './hook-function.js';

/** A hook, several, or all whose module name or own name contains the text. */
export type WhichHooks = HookFunction | readonly HookFunction[] | string;

/**
 * @example
 * const groups = new HookGroups([...readers, ...edits]).add('early', 'layers.0.').add('edits', edits);
 * runs: [{ name: 'clean', inputs, hooks: groups.outside('edits') }, { name: 'both', inputs, hooks: groups.in('early', 'edits') }]
 */
export class HookGroups {
  readonly #groups = new Map<string, Set<HookFunction>>();

  constructor(hooks: readonly HookFunction[]) {
    this.#groups.set('all', new Set(hooks));
  }

  /** Names of the groups, `all` first. */
  get names(): string[] {
    return [...this.#groups.keys()];
  }

  /** Puts hooks into a group, which is made. A hook that is new here is in `all` from now on. @throws `PB_HOOK_NOT_FOUND` for a text that fits none */
  add(group: string, which: WhichHooks): this {
    const members = this.#groups.get(group) ?? new Set();
    for (const hook of this.#find(which)) {
      this.#get('all').add(hook);
      members.add(hook);
    }
    this.#groups.set(group, members);
    return this;
  }

  /** Takes hooks out of a group; out of `all`: out of every group. @throws `PB_GROUP_NOT_FOUND`, `PB_HOOK_NOT_FOUND` */
  remove(group: string, which: WhichHooks): this {
    const from = group === 'all' ? [...this.#groups.values()] : [this.#get(group)];
    for (const hook of this.#find(which)) for (const members of from) members.delete(hook);
    return this;
  }

  /** Hooks of any of the groups, in the order in which they were registered. @throws `PB_GROUP_NOT_FOUND` */
  in(...groups: readonly string[]): HookFunction[] {
    const union = new Set(groups.flatMap((group) => [...this.#get(group)]));
    return [...this.#get('all')].filter((hook) => union.has(hook));
  }

  /** Hooks of none of the groups, in the order in which they were registered. @throws `PB_GROUP_NOT_FOUND` */
  outside(...groups: readonly string[]): HookFunction[] {
    const union = new Set(this.in(...groups));
    return [...this.#get('all')].filter((hook) => !union.has(hook));
  }

  #get(group: string): Set<HookFunction> {
    const found = this.#groups.get(group);
    if (found !== undefined) return found;
    const near = nearest(group, this.names);
    throw error(
      'PB_GROUP_NOT_FOUND',
      { group },
      { hint: `There are ${(near.length > 0 ? near : this.names).join(', ')}.` },
    );
  }

  #find(which: WhichHooks): readonly HookFunction[] {
    if (which instanceof HookFunction) return [which];
    if (typeof which !== 'string') return which;
    const found = [...this.#get('all')].filter(
      ({ options }) => options.moduleName.includes(which) || options.name?.includes(which) === true,
    );
    if (found.length > 0) return found;
    throw error('PB_HOOK_NOT_FOUND', { hook: which }, { hint: 'No module name and no hook name contains this text.' });
  }
}
