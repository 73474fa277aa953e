use std::fmt;

use candle_core::quantized::{GgmlDType, ggml_file};

/// How a GGUF stores the values of one tensor: a type that can be turned into `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredType(pub(crate) GgmlDType);

/// The types that are read: ggml's number, its name, candle's.
const READABLE: [(u32, &str, GgmlDType); 13] = [
    (0, "F32", GgmlDType::F32),
    (1, "F16", GgmlDType::F16),
    (2, "Q4_0", GgmlDType::Q4_0),
    (3, "Q4_1", GgmlDType::Q4_1),
    (6, "Q5_0", GgmlDType::Q5_0),
    (7, "Q5_1", GgmlDType::Q5_1),
    (8, "Q8_0", GgmlDType::Q8_0),
    (10, "Q2_K", GgmlDType::Q2K),
    (11, "Q3_K", GgmlDType::Q3K),
    (12, "Q4_K", GgmlDType::Q4K),
    (13, "Q5_K", GgmlDType::Q5K),
    (14, "Q6_K", GgmlDType::Q6K),
    (30, "BF16", GgmlDType::BF16),
];

/// Types that llama.cpp writes and that are refused: ggml's number and name.
const UNREADABLE: [(u32, &str); 20] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl StoredType {
    /// The type of ggml's number `id`, or the name of one that can't be read.
    pub(crate) fn from_id(id: u32) -> Result<Self, String> {
        if let Some((_, _, dtype)) = READABLE.iter().find(|(readable, _, _)| *readable == id) {
            return Ok(Self(*dtype));
        }
        let name = UNREADABLE.iter().find(|(unreadable, _)| *unreadable == id);
        Err(name.map_or_else(|| format!("type {id}"), |(_, name)| (*name).to_owned()))
    }

    /// Elements that share their scales.
    pub(crate) fn block_len(self) -> usize {
        self.0.block_size()
    }

    /// Bytes of a block.
    pub(crate) fn block_bytes(self) -> usize {
        self.0.type_size()
    }

    /// The values of whole blocks; `bytes` begins at a multiple of four.
    pub(crate) fn dequantize(self, bytes: &[u8], to: &mut [f32]) -> candle_core::Result<()> {
        let device = candle_core::Device::Cpu;
        let tensor = ggml_file::qtensor_from_ggml(self.0, bytes, vec![to.len()], &device)?;
        to.copy_from_slice(&tensor.dequantize(&device)?.to_vec1::<f32>()?);
        Ok(())
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = READABLE.iter().find(|(_, _, dtype)| *dtype == self.0);
        f.write_str(name.map_or("?", |(_, name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_as_llama_cpp_names_them() {
        assert_eq!(StoredType::from_id(12).unwrap().to_string(), "Q4_K");
        assert_eq!(StoredType::from_id(23).unwrap_err(), "IQ4_XS");
        assert_eq!(StoredType::from_id(1000).unwrap_err(), "type 1000");
    }

    #[test]
    fn no_number_stands_for_two_types() {
        let readable = READABLE.iter().map(|(id, _, _)| *id);
        let mut ids: Vec<_> = readable.chain(UNREADABLE.iter().map(|(id, _)| *id)).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), READABLE.len() + UNREADABLE.len());
    }
}
