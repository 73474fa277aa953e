use candle_core::Device;

/// Does `work` with tensors where kernels take them: on the first GPU with the feature `cuda`,
/// otherwise on the CPU as by [`emulate`](crate::emulate).
///
/// # Panics
///
/// With the feature `cuda`, where there is no GPU; without, if no kernel was asked.
pub fn on_gpu<R>(work: impl FnOnce(&Device) -> R) -> R {
    #[cfg(feature = "cuda")]
    return work(&crate::open_gpu(0).unwrap_or_else(|err| panic!("there is no GPU: {err}")));
    #[cfg(not(feature = "cuda"))]
    {
        let before = crate::kernels::n_emulated();
        let found = crate::emulate(|| work(&Device::Cpu));
        assert!(crate::kernels::n_emulated() > before, "no kernel was asked");
        found
    }
}

/// Does `work` with tensors of the CPU.
pub fn on_cpu<R>(work: impl FnOnce(&Device) -> R) -> R {
    work(&Device::Cpu)
}

/// Makes two tests of each function that takes a device: `cpu::NAME` by [`on_cpu`], and `gpu::NAME` by
/// [`on_gpu`]. Once in a module.
#[macro_export]
macro_rules! on_cpu_and_gpu {
    ($($check:ident),+ $(,)?) => {
        mod cpu {
            $(#[test]
            fn $check() {
                $crate::on_cpu(super::$check);
            })+
        }

        mod gpu {
            $(#[test]
            fn $check() {
                $crate::on_gpu(super::$check);
            })+
        }
    };
}
