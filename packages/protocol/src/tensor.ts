/** dtypes of tensors as they are named in documents, results and safetensors files. Not here: tensor values (sdk). @module */
import { z } from 'zod';

/** Every dtype of the safetensors format with its torch name and its size in bytes. */
export const DTYPES = {
  BOOL: { name: 'bool', bytes: 1 },
  U8: { name: 'uint8', bytes: 1 },
  I8: { name: 'int8', bytes: 1 },
  F8_E5M2: { name: 'float8_e5m2', bytes: 1 },
  F8_E4M3: { name: 'float8_e4m3fn', bytes: 1 },
  F8_E8M0: { name: 'float8_e8m0fnu', bytes: 1 },
  I16: { name: 'int16', bytes: 2 },
  U16: { name: 'uint16', bytes: 2 },
  F16: { name: 'float16', bytes: 2 },
  BF16: { name: 'bfloat16', bytes: 2 },
  I32: { name: 'int32', bytes: 4 },
  U32: { name: 'uint32', bytes: 4 },
  F32: { name: 'float32', bytes: 4 },
  F64: { name: 'float64', bytes: 8 },
  I64: { name: 'int64', bytes: 8 },
  U64: { name: 'uint64', bytes: 8 },
  C64: { name: 'complex64', bytes: 8 },
} as const;

/** dtype code of a safetensors header, such as `F32`. */
export type SafetensorsDtype = keyof typeof DTYPES;
/** dtype name as torch prints it, such as `float32`. */
export type DtypeName = (typeof DTYPES)[SafetensorsDtype]['name'];

export const dtypeName = z.enum(Object.values(DTYPES).map((dtype) => dtype.name) as [DtypeName, ...DtypeName[]]);
/** Sizes of the dims. */
export const shape = z.array(z.int().min(0));
