use std::borrow::Cow;
use std::collections::BTreeMap;

use fastrand::Rng;
use half::{bf16, f16};
use safetensors::View;

/// The element types of a tensor's file form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of a single.
    Bf16,
}

impl Dtype {
    /// The name in a `config.json`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// `value` rounded to this type, and widened again.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }
}

/// A named tensor, row-major, on its way into a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// Its element type in the file.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Its values; writing rounds them to `dtype`.
    pub values: Vec<f32>,
}

impl Tensor {
    /// Values spread evenly around `mean` with standard deviation `std`, rounded to `dtype`.
    pub fn seeded(
        name: impl Into<String>,
        dtype: Dtype,
        shape: &[usize],
        (mean, std): (f32, f32),
        rng: &mut Rng,
    ) -> Self {
        let half_width = 3.0_f32.sqrt() * std;
        let values = (0..shape.iter().product())
            .map(|_| dtype.round(half_width.mul_add(rng.f32().mul_add(2.0, -1.0), mean)))
            .collect();
        Self { name: name.into(), dtype, shape: shape.to_vec(), values }
    }

    /// The little-endian bytes of the values in `dtype`.
    pub fn bytes(&self) -> Vec<u8> {
        let values = self.values.iter();
        match self.dtype {
            Dtype::F32 => values.flat_map(|value| value.to_le_bytes()).collect(),
            Dtype::F16 => values.flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            Dtype::Bf16 => values.flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        }
    }
}

impl View for &Tensor {
    fn dtype(&self) -> safetensors::Dtype {
        match self.dtype {
            Dtype::F32 => safetensors::Dtype::F32,
            Dtype::F16 => safetensors::Dtype::F16,
            Dtype::Bf16 => safetensors::Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes().into()
    }

    fn data_len(&self) -> usize {
        self.bytes().len()
    }
}

/// A safetensors file, by the library of that name.
pub fn safetensors_bytes(tensors: &[Tensor], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let named = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
    let metadata = metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    safetensors::serialize(named, Some(metadata)).unwrap()
}
