/** Safetensors files as tensors. Not here: the format itself (protocol). @module */
import { encodeSafetensors, parseSafetensors } from '@patchbay/protocol';
import { Tensor } from './tensor.js';

/** The tensors of a file by name. They share its memory where alignment allows. @throws `PB_SAFETENSORS_INVALID` */
export function readSafetensors(file: Uint8Array): ReadonlyMap<string, Tensor> {
  return new Map([...parseSafetensors(file)].map(([name, raw]) => [name, Tensor.fromRaw(raw)]));
}

/** A file with these tensors, and text besides if wanted. */
export function writeSafetensors(
  tensors: Readonly<Record<string, Tensor>>,
  metadata?: Readonly<Record<string, string>>,
): Uint8Array {
  return encodeSafetensors(new Map(Object.entries(tensors).map(([name, tensor]) => [name, tensor.toRaw()])), metadata);
}
