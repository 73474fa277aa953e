use bytemuck::NoUninit;
use candle_core::{Result, Tensor};

/// A kernel, by the file that it is in and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// The file's name without its ending.
    pub module: &'static str,
    /// The function's.
    pub name: &'static str,
}

/// How many threads a kernel is run by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// In each of three dimensions, of which the first may have 2³¹ − 1, the others 65,535.
    pub blocks: [usize; 3],
    /// In each block, at most 1024 altogether.
    pub threads: [usize; 3],
    /// Of memory that the threads of a block share, beside what the kernel declares.
    pub shared_bytes: usize,
}

impl Grid {
    /// A thread for each of `n` elements.
    pub fn of_elements(n: usize) -> Self {
        const THREADS: usize = 256;
        Self::of_blocks([n.div_ceil(THREADS).max(1), 1], THREADS)
    }

    /// Blocks of two dimensions, each of `threads` in one.
    pub fn of_blocks([x, y]: [usize; 2], threads: usize) -> Self {
        Self { blocks: [x, y, 1], threads: [threads, 1, 1], shared_bytes: 0 }
    }

    /// With memory that the threads of a block share.
    #[must_use]
    pub fn sharing(self, bytes: usize) -> Self {
        Self { shared_bytes: bytes, ..self }
    }

    fn fits(&self) -> bool {
        let [x, y, z] = self.blocks;
        let n_threads: usize = self.threads.iter().product();
        (1..1 << 31).contains(&x)
            && (1..1 << 16).contains(&y)
            && (1..1 << 16).contains(&z)
            && (1..=1024).contains(&n_threads)
    }
}

/// A kernel with what it is given, parameter by parameter in their order.
#[derive(Debug)]
pub struct Launch<'a> {
    pub(super) kernel: Kernel,
    pub(super) grid: Grid,
    pub(super) args: Vec<Arg<'a>>,
}

#[derive(Debug)]
pub(super) enum Arg<'a> {
    /// The address of its first element.
    Tensor(&'a Tensor),
    /// Bytes, in whole words so that any type is aligned.
    Value(Vec<u64>),
    /// A struct of words and addresses.
    Struct(Vec<Word<'a>>),
}

/// Eight bytes of a struct that a kernel takes.
#[derive(Clone, Copy, Debug)]
pub enum Word<'a> {
    /// Numbers.
    Number(u64),
    /// The address of a tensor's first element.
    Address(&'a Tensor),
}

impl Word<'_> {
    /// Two numbers of four bytes, the first one first.
    pub fn pair(low: u32, high: u32) -> Self {
        Self::Number(u64::from(low) | u64::from(high) << 32)
    }
}

impl<'a> Launch<'a> {
    /// With no arguments yet.
    pub fn new(kernel: Kernel, grid: Grid) -> Self {
        Self { kernel, grid, args: Vec::new() }
    }

    /// Adds the address of a tensor's first element, to be read or written.
    #[must_use]
    pub fn tensor(mut self, tensor: &'a Tensor) -> Self {
        self.args.push(Arg::Tensor(tensor));
        self
    }

    /// Adds a number, or an array of numbers for a struct that is laid out like one.
    #[must_use]
    pub fn value<T: NoUninit>(mut self, value: T) -> Self {
        self.args.push(Arg::Value(words(&value)));
        self
    }

    /// Adds a struct that is laid out in words of eight bytes; 4 KiB of parameters are the most that a
    /// kernel takes.
    #[must_use]
    pub fn words(mut self, words: Vec<Word<'a>>) -> Self {
        self.args.push(Arg::Struct(words));
        self
    }

    /// Runs it behind all that was asked of the GPU before.
    ///
    /// # Errors
    ///
    /// Where there is no such kernel, a tensor is not contiguous, or the GPU refuses.
    ///
    /// # Safety
    ///
    /// The arguments are those that the kernel has, and their elements as many as it reads and writes;
    /// what it writes is nobody else's at the time.
    pub unsafe fn run(self, on: &Tensor) -> Result<()> {
        if !self.grid.fits() {
            candle_core::bail!("{:?} can't be run by {:?}", self.kernel, self.grid);
        }
        // SAFETY: the caller's promise.
        unsafe { super::run(self, on) }
    }
}

fn words<T: NoUninit>(value: &T) -> Vec<u64> {
    let bytes = bytemuck::bytes_of(value);
    let mut words = vec![0; bytes.len().div_ceil(size_of::<u64>()).max(1)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}
