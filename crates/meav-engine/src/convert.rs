//! The protocol's words for what the libraries have types for, and back.

use meav_protocol::{Dtype, Method, ModuleKind, Scope};
use meav_vector::VectorKind;

pub(crate) fn weights_dtype(dtype: Dtype) -> meav_weights::Dtype {
    match dtype {
        Dtype::F32 => meav_weights::Dtype::F32,
        Dtype::F16 => meav_weights::Dtype::F16,
        Dtype::Bf16 => meav_weights::Dtype::Bf16,
    }
}

pub(crate) fn protocol_dtype(dtype: meav_weights::Dtype) -> Dtype {
    match dtype {
        meav_weights::Dtype::F32 => Dtype::F32,
        meav_weights::Dtype::F16 => Dtype::F16,
        meav_weights::Dtype::Bf16 => Dtype::Bf16,
    }
}

pub(crate) fn kind_name(kind: VectorKind) -> &'static str {
    match kind {
        VectorKind::Dense => "dense",
        VectorKind::LowRank => "low-rank",
        VectorKind::Sparse => "sparse",
        VectorKind::Sign => "sign",
        VectorKind::Checkpoint => "checkpoint",
    }
}

pub(crate) fn vector_method(method: Method) -> meav_vector::Method {
    match method {
        Method::TaskArithmetic => meav_vector::Method::TaskArithmetic,
        Method::Ties { density } => meav_vector::Method::Ties { density },
        Method::Dare { drop, seed } => meav_vector::Method::Dare { drop, seed },
    }
}

pub(crate) fn protocol_method(method: meav_vector::Method) -> Method {
    match method {
        meav_vector::Method::TaskArithmetic => Method::TaskArithmetic,
        meav_vector::Method::Ties { density } => Method::Ties { density },
        meav_vector::Method::Dare { drop, seed } => Method::Dare { drop, seed },
    }
}

pub(crate) fn vector_scope(scope: &Scope) -> meav_vector::Scope {
    let Scope { layers, modules, profile } = scope;
    meav_vector::Scope {
        layers: layers.iter().map(|[first, last]| *first..=*last).collect(),
        modules: modules.iter().copied().map(vector_module).collect(),
        profile: profile.clone(),
    }
}

pub(crate) fn protocol_scope(scope: &meav_vector::Scope) -> Scope {
    let meav_vector::Scope { layers, modules, profile } = scope;
    Scope {
        layers: layers.iter().map(|range| [*range.start(), *range.end()]).collect(),
        modules: modules.iter().copied().map(protocol_module).collect(),
        profile: profile.clone(),
    }
}

fn vector_module(module: ModuleKind) -> meav_vector::ModuleKind {
    match module {
        ModuleKind::Attention => meav_vector::ModuleKind::Attention,
        ModuleKind::Mlp => meav_vector::ModuleKind::Mlp,
        ModuleKind::Embeddings => meav_vector::ModuleKind::Embeddings,
        ModuleKind::Norms => meav_vector::ModuleKind::Norms,
        ModuleKind::Other => meav_vector::ModuleKind::Other,
    }
}

pub(crate) fn protocol_module(module: meav_vector::ModuleKind) -> ModuleKind {
    match module {
        meav_vector::ModuleKind::Attention => ModuleKind::Attention,
        meav_vector::ModuleKind::Mlp => ModuleKind::Mlp,
        meav_vector::ModuleKind::Embeddings => ModuleKind::Embeddings,
        meav_vector::ModuleKind::Norms => ModuleKind::Norms,
        meav_vector::ModuleKind::Other => ModuleKind::Other,
    }
}
