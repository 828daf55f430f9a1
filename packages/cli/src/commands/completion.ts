/** `patchbay completion`: a completion script for a shell, printed from the table of commands. @module */
import { z } from 'zod';
import { defineCommand, type Command } from '../define-command.js';
import { optionsOf } from '../run-command.js';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

const words = (commands: readonly Command[]): string => commands.map(({ name }) => name).join(' ');
/** For single quotes in all three shells. */
const quoted = (text: string): string => text.replaceAll("'", '’');

function bash(commands: readonly Command[]): string {
  const cases = commands.map((command) => `    ${command.name}) options='${optionsOf(command).join(' ')}' ;;`);
  return `# bash completion for patchbay:  source <(patchbay completion bash)
_patchbay() {
  local current=\${COMP_WORDS[COMP_CWORD]} options=''
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${words(commands)}' -- "$current"))
    return
  fi
  case \${COMP_WORDS[1]} in
${cases.join('\n')}
  esac
  case $current in
    -*) COMPREPLY=($(compgen -W "$options" -- "$current")) ;;
    *) COMPREPLY=($(compgen -f -- "$current")) ;;
  esac
}
complete -F _patchbay patchbay`;
}

function zsh(commands: readonly Command[]): string {
  const names = commands.map(({ name, summary }) => `    '${name}:${quoted(summary)}'`);
  const cases = commands.map((command) => `    ${command.name}) compadd -- ${optionsOf(command).join(' ')} ;;`);
  return `#compdef patchbay
# zsh completion for patchbay:  patchbay completion zsh > "\${fpath[1]}/_patchbay"
_patchbay() {
  local -a commands=(
${names.join('\n')}
  )
  if (( CURRENT == 2 )); then _describe command commands; return; fi
  if [[ $words[CURRENT] != -* ]]; then _files; return; fi
  case $words[2] in
${cases.join('\n')}
  esac
}
compdef _patchbay patchbay`;
}

function fish(commands: readonly Command[]): string {
  const names = commands.map(
    ({ name, summary }) => `complete -c patchbay -n __fish_use_subcommand -f -a ${name} -d '${quoted(summary)}'`,
  );
  const options = commands.flatMap((command) =>
    optionsOf(command).map(
      (option) => `complete -c patchbay -n '__fish_seen_subcommand_from ${command.name}' -l ${option.slice(2)}`,
    ),
  );
  return ['# fish completion for patchbay:  patchbay completion fish | source', ...names, ...options].join('\n');
}

const PRINT: Readonly<Record<Shell, (commands: readonly Command[]) => string>> = { bash, zsh, fish };

export const completion = defineCommand({
  name: 'completion',
  summary: 'Print the completion script of a shell',
  args: { shell: z.enum(SHELLS).describe(SHELLS.join(', ')).meta({ positional: true }) },
  examples: ['source <(patchbay completion bash)', 'patchbay completion fish | source'],
  async run({ args, out }) {
    const { loadCommands } = await import('../commands.js');
    const script = PRINT[args.shell](await loadCommands());
    out.data({ shell: args.shell, script }, script);
    return undefined;
  },
});
