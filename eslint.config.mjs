// Lint rules of all TypeScript: typed rules, house style, and who may import whom between the packages.
// Rules on files and folders (sizes, names, the few files that may import bullmq) are in scripts/tidy.ts.
import js from '@eslint/js';
import tseslint from 'typescript-eslint';

// cli -> sdk -> protocol <- orchestrator
const MAY_IMPORT = {
  charts: [],
  protocol: [],
  sdk: ['protocol'],
  orchestrator: ['protocol'],
  cli: ['sdk', 'protocol', 'charts'],
  dashboard: ['charts', 'sdk', 'protocol'],
  testing: ['cli', 'sdk'],
};

/** Neither by package name nor by a path that leaves the own package. */
function boundary(name) {
  const others = Object.keys(MAY_IMPORT).filter((other) => other !== name && !MAY_IMPORT[name].includes(other));
  const direction = `@patchbay/${name} may import ${MAY_IMPORT[name].join(', ') || 'no other package of ours'}.`;
  return {
    files: [`packages/${name}/src/**/*.{ts,tsx}`],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            { regex: `^@patchbay/(${others.join('|')})(/|$)`, message: direction },
            {
              regex: `(^|/)(${Object.keys(MAY_IMPORT).join('|')})/(src|dist|gen)/`,
              message: 'Import a package by its name.',
            },
          ],
        },
      ],
    },
  };
}

export default tseslint.config(
  {
    ignores: [
      '**/dist/',
      '**/gen/',
      '**/node_modules/',
      '.venv/',
      '.patchbay/',
      'out/',
      'coverage/',
      '**/*.js',
      '**/vite.config.ts',
    ],
  },
  js.configs.recommended,
  {
    files: ['**/*.{ts,tsx}'],
    extends: [...tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/require-await': 'off', // an async function may keep a promise it does not wait for
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportDefaultDeclaration', message: 'Named exports only.' },
        { selector: 'TSEnumDeclaration', message: 'A union of strings instead of an enum.' },
      ],
    },
  },
  {
    files: ['packages/*/src/**/*.{ts,tsx}', 'scripts/**/*.ts'],
    rules: { 'max-lines-per-function': ['error', { max: 60, skipBlankLines: true, skipComments: true }] },
  },
  // a component is mostly markup
  {
    files: ['packages/*/src/**/*.tsx'],
    rules: { 'max-lines-per-function': ['error', { max: 80, skipBlankLines: true, skipComments: true }] },
  },
  { files: ['packages/{charts,protocol,sdk,orchestrator}/src/**/*.ts'], rules: { 'no-console': 'error' } },
  ...Object.keys(MAY_IMPORT).map(boundary),
  {
    files: ['**/test/**/*.ts', 'tests/**/*.ts'],
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-unused-expressions': 'off',
    },
  },
  {
    files: ['**/*.mjs'],
    languageOptions: {
      globals: {
        process: 'readonly',
        setTimeout: 'readonly',
        setInterval: 'readonly',
        clearTimeout: 'readonly',
        clearInterval: 'readonly',
      },
    },
  },
);
