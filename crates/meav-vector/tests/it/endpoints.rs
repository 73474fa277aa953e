//! What a merge gives at λ = 0 and λ = 1, and between.

use std::sync::Arc;

use half::{bf16, f16};
use meav_test_support::{assert_close, tolerance};
use meav_vector::Delta;
use meav_weights::{Dtype, Weight};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{sum_tensor, term, vector};

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];

fn dense(values: &[f32]) -> Delta {
    Delta::Dense(weight(values))
}

fn weight(values: &[f32]) -> Weight {
    Weight::from_f32(vec![values.len()], values.to_vec())
}

fn merged(base: &Weight, dtype: Dtype, terms: &[(&[f32], f64)]) -> Weight {
    let terms: Vec<_> = terms
        .iter()
        .map(|(values, coefficient)| {
            term(&Arc::new(vector("any", [("w", dense(values))])), *coefficient)
        })
        .collect();
    sum_tensor("w", base, dtype, &terms).unwrap()
}

#[test]
fn zero_gives_back_the_rounded_base_bit_for_bit() {
    let special = [0.0, -0.0, f32::MIN_POSITIVE, -1e-45, 1.0, f32::INFINITY, f32::NEG_INFINITY];
    let base = weight(&special);
    let addends = [1.0, 1.0, f32::MAX, -1.0, 0.1, f32::MIN, f32::MAX];
    for base_dtype in DTYPES {
        let base = base.to_dtype(base_dtype);
        for dtype in DTYPES {
            // The last is nothing in the precision of the sum.
            for coefficient in [0.0, -0.0, 1e-50] {
                let found = merged(&base, dtype, &[(&addends, coefficient)]);
                assert_eq!(found.bytes(), base.to_dtype(dtype).bytes(), "{base_dtype} to {dtype}");
            }
        }
    }
}

#[test]
fn zero_leaves_not_a_number_as_it_is() {
    let bits = [0x7FC0_1234_u32, 0xFFC0_0001];
    let base = weight(&bits.map(f32::from_bits));
    let found = merged(&base, Dtype::F32, &[(&[1.0, 1.0], 0.0)]);
    assert_eq!(found.bytes(), base.bytes());
    let found = merged(&base, Dtype::Bf16, &[(&[1.0, 1.0], 1.0)]);
    assert!(found.to_f32_vec().iter().all(|value| value.is_nan()));
}

proptest! {
    /// Weights within a factor of 2¹² of each other, as those of one layer are: their difference
    /// is then exact in single precision.
    #[test]
    fn one_gives_back_the_aligned_model(
        pairs in vec((any::<i16>(), any::<i16>()), 1..64),
        is_bf16 in any::<bool>(),
    ) {
        let round = |value: i16| {
            let value = f32::from(value) / 4096.0;
            if is_bf16 { bf16::from_f32(value).to_f32() } else { f16::from_f32(value).to_f32() }
        };
        let dtype = if is_bf16 { Dtype::Bf16 } else { Dtype::F16 };
        let base: Vec<_> = pairs.iter().map(|(base, _)| round(*base)).collect();
        let aligned: Vec<_> = pairs.iter().map(|(_, aligned)| round(*aligned)).collect();
        let delta: Vec<_> = aligned.iter().zip(&base).map(|(a, b)| a - b).collect();
        for dtype in [dtype, Dtype::F32] {
            let found = merged(&weight(&base), dtype, &[(&delta, 1.0)]);
            prop_assert_eq!(found.to_f32_vec(), aligned.clone());
        }
    }

    #[test]
    fn the_edit_is_linear_in_the_coefficient(
        values in vec((-8.0..8.0_f32, -8.0..8.0_f32), 1..64),
        coefficient in -1.5..1.5_f64,
    ) {
        let (base, delta): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        let edit = |coefficient: f64| -> Vec<f32> {
            let found = merged(&weight(&base), Dtype::F32, &[(&delta, coefficient)]).to_f32_vec();
            found.iter().zip(&base).map(|(found, base)| found - base).collect()
        };
        let doubled: Vec<_> = edit(coefficient).iter().map(|edit| 2.0 * edit).collect();
        assert_close(&edit(2.0 * coefficient), &doubled, tolerance::F32);
        let negated: Vec<_> = edit(coefficient).iter().map(|edit| -edit).collect();
        assert_close(&edit(-coefficient), &negated, tolerance::F32);
    }

    #[test]
    fn terms_add_up_in_any_order_up_to_rounding(
        values in vec((-8.0..8.0_f32, -8.0..8.0_f32, -8.0..8.0_f32), 1..64),
        coefficients in (-1.5..1.5_f64, -1.5..1.5_f64),
    ) {
        let base: Vec<_> = values.iter().map(|(base, ..)| *base).collect();
        let a: Vec<_> = values.iter().map(|(_, a, _)| *a).collect();
        let b: Vec<_> = values.iter().map(|(.., b)| *b).collect();
        let (a, b) = ((&a[..], coefficients.0), (&b[..], coefficients.1));
        let of = |terms: &[_]| merged(&weight(&base), Dtype::F32, terms).to_f32_vec();
        assert_close(&of(&[a, b]), &of(&[b, a]), tolerance::F32);
        let one_after_the_other =
            merged(&merged(&weight(&base), Dtype::F32, &[a]), Dtype::F32, &[b]).to_f32_vec();
        assert_close(&of(&[a, b]), &one_after_the_other, tolerance::F32);
    }

    /// The base is not rounded before the sum.
    #[test]
    fn result_is_rounded_once(
        values in vec((0.25..0.5_f32, -0.1..0.1_f32), 1..64),
        coefficient in -1.0..1.0_f64,
    ) {
        let (base, delta): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        let exact = merged(&weight(&base), Dtype::F32, &[(&delta, coefficient)]);
        let found = merged(&weight(&base), Dtype::Bf16, &[(&delta, coefficient)]);
        let expected = exact.to_dtype(Dtype::Bf16);
        prop_assert_eq!(found.bytes(), expected.bytes());
    }
}
