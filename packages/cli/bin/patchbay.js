#!/usr/bin/env node
// The command's entry, committed so that the package manager can link it before the first build.
import '../dist/bin.js';
