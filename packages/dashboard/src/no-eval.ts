/** Imported first: zod tries whether it may compile code, which the policy of the page reports as a violation. @module */
import { config } from 'zod';

config({ jitless: true });
