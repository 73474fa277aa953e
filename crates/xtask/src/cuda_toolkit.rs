use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{self, Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::step;

/// A CUDA toolkit that the engine can be built with.
pub(crate) struct Toolkit {
    home: PathBuf,
}

/// Versions that the engine can be built with, the first and the last.
const SUPPORTED: [(u32, u32); 2] = [(12, 0), (13, 4)];

impl Toolkit {
    /// The one that `CUDA_HOME` names, or else the one whose `nvcc` is on the path, or else the one
    /// below `target`, installed unless it was.
    pub(crate) fn find_or_install(target: &Path) -> Result<Self> {
        if let Some(home) = env::var_os("CUDA_HOME").filter(|home| !home.is_empty()) {
            // Crates are compiled each in its own folder.
            let home = path::absolute(home)?;
            check_compiler(&home).context("CUDA_HOME names no toolkit to build with")?;
            return Ok(Self { home });
        }
        if let Some(home) = env::var_os("PATH").and_then(|folders| home_of_compiler(&folders)) {
            match check_compiler(&home) {
                Ok(()) => return Ok(Self { home }),
                Err(err) => {
                    writeln!(io::stderr(), "the toolkit on the path is left aside: {err:#}")?;
                }
            }
        }
        Self::install(target)
    }

    /// Has a command build with it, for GPUs of compute capability 8.0 and upward unless
    /// `CUDA_COMPUTE_CAP` says otherwise.
    pub(crate) fn set_for<'a>(&self, command: &'a mut Command) -> Result<&'a mut Command> {
        let own = ["bin", "nvvm/bin"].map(|folder| self.home.join(folder));
        command.env("CUDA_HOME", &self.home).env("PATH", before("PATH", own)?);
        if env::var_os("CUDA_COMPUTE_CAP").is_none() {
            command.env("CUDA_COMPUTE_CAP", "80");
        }
        Ok(command)
    }

    /// As [`Toolkit::set_for`], for a command that starts what was built, too.
    pub(crate) fn set_for_tests<'a>(&self, command: &'a mut Command) -> Result<&'a mut Command> {
        let own = ["lib64", "lib"].map(|folder| self.home.join(folder));
        command.env("LD_LIBRARY_PATH", before("LD_LIBRARY_PATH", own)?);
        self.set_for(command)
    }

    /// The line by which a shell uses it.
    pub(crate) fn export_line(&self) -> String {
        let home = self.home.display();
        format!(r#"export CUDA_HOME="{home}" PATH="{home}/bin:{home}/nvvm/bin:$PATH""#)
    }
}

/// A list of folders as the environment has it, with others before.
fn before<const N: usize>(variable: &str, folders: [PathBuf; N]) -> Result<OsString> {
    let rest = env::var_os(variable).unwrap_or_default();
    let rest = env::split_paths(&rest).filter(|folder| !folder.as_os_str().is_empty());
    Ok(env::join_paths(folders.into_iter().chain(rest))?)
}

/// The folder of the toolkit whose compiler is in one of these folders.
fn home_of_compiler(folders: &OsStr) -> Option<PathBuf> {
    let compilers = env::split_paths(folders).map(|folder| folder.join("nvcc").canonicalize());
    let compiler = compilers.flatten().next()?;
    let home = compiler.parent()?.parent()?;
    // Some systems tear toolkits apart.
    home.join("include/cuda.h").exists().then(|| home.to_owned())
}

/// Fails unless the compiler of the toolkit runs and is of a version that is supported.
fn check_compiler(home: &Path) -> Result<()> {
    let nvcc = home.join("bin/nvcc");
    let output = Command::new(&nvcc).arg("--version").output();
    let output = output.with_context(|| format!("{} could not be started", nvcc.display()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    check_version(&printed).with_context(|| format!("{} can't be used", nvcc.display()))
}

fn check_version(printed: &str) -> Result<()> {
    let (major, minor) = version(printed).context("it does not say its version")?;
    let [first, last] = SUPPORTED;
    if !(first..=last).contains(&(major, minor)) {
        let [(a, b), (c, d)] = [first, last];
        bail!("it is of CUDA {major}.{minor}, and those from {a}.{b} to {c}.{d} are supported");
    }
    Ok(())
}

/// From what `nvcc --version` prints.
fn version(text: &str) -> Option<(u32, u32)> {
    let (_, rest) = text.split_once("release ")?;
    let (version, _) = rest.split_once(',')?;
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The parts of the toolkit that the engine is built with, as Python wheels. 13.0 is the newest that
/// the drivers from 580 on run.
const WHEELS: [&str; 8] = [
    "nvidia-cuda-nvcc==13.0.*",
    "nvidia-cuda-runtime==13.0.*",
    "nvidia-cuda-cccl==13.0.*",
    "nvidia-nvvm==13.0.*",
    "nvidia-cuda-crt==13.0.*",
    "nvidia-cuda-nvrtc==13.0.*",
    "nvidia-cublas==13.0.*",
    "nvidia-curand==10.4.0.*",
];

/// Written last, so that what was cut off is done again.
const DONE: &str = "installed";

impl Toolkit {
    /// Installs it below `target` unless it was: 1.2 GB from Python wheels, so that neither a driver
    /// nor an administrator is needed.
    pub(crate) fn install(target: &Path) -> Result<Self> {
        let folder = target.join("cuda-toolkit");
        let home = folder.join("nvidia/cu13");
        let wanted = WHEELS.join("\n");
        if fs::read_to_string(folder.join(DONE)).is_ok_and(|found| found == wanted) {
            return Ok(Self { home });
        }
        if folder.exists() {
            let blocked = || format!("{} is in the way", folder.display());
            fs::remove_dir_all(&folder).with_context(blocked)?;
        }
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--only-binary", ":all:", "--target"]);
        step(pip.arg(&folder).args(WHEELS))?;
        let libraries = home.join("lib");
        name_libraries(&libraries)?;
        // Compilers look in either.
        symlink("lib", home.join("lib64"))?;
        make_driver_stub(&home.join("include/cuda.h"), &libraries.join("stubs"))?;
        fs::write(folder.join(DONE), wanted)?;
        Ok(Self { home })
    }
}

/// Lets the linker find `libcublas.so.13` as `libcublas.so`.
fn name_libraries(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some((stem, _)) = name.split_once(".so.") {
            match symlink(&name, folder.join(format!("{stem}.so"))) {
                Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err.into()),
                _ => {}
            }
        }
    }
    Ok(())
}

/// `CUDA_ERROR_STUB_LIBRARY`.
const STUB_ERROR: i32 = 34;

/// Makes what stands in for the driver's library while the engine is linked: all that `header`
/// declares, each function giving the error for this. Where the engine runs, the driver brings the
/// real one.
fn make_driver_stub(header: &Path, folder: &Path) -> Result<()> {
    let text = fs::read_to_string(header)
        .with_context(|| format!("{} can't be read", header.display()))?;
    let names = function_names(&text);
    if names.is_empty() {
        bail!("{} declares nothing", header.display());
    }
    fs::create_dir_all(folder)?;
    let source = folder.join("cuda.c");
    let mut file = io::BufWriter::new(fs::File::create(&source)?);
    for name in names {
        writeln!(file, "int {name}(void) {{ return {STUB_ERROR}; }}")?;
    }
    file.into_inner()?;
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-nostdlib", "-Wl,-soname,libcuda.so.1", "-o"]);
    step(cc.arg(folder.join("libcuda.so")).arg(&source))
}

/// Every word that is a function of the driver's, or a later version of one: `cuInit`,
/// `cuMemAlloc_v2`.
fn function_names(header: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = |word: &&str| {
        word.strip_prefix("cu")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
    };
    let mut names: Vec<&str> = header.split(|c| !is_part(c)).filter(is_name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolkit_of_another_time_is_refused_with_its_version() {
        let printed = |version: &str| {
            format!(
                "nvcc: NVIDIA (R) Cuda compiler driver\nBuilt on Wed_Aug_20_01:58:59_PM_PDT_2025\n\
                 Cuda compilation tools, release {version}, V{version}.88\n"
            )
        };
        for version in ["12.0", "12.8", "13.0", "13.4"] {
            check_version(&printed(version)).unwrap();
        }
        for version in ["9.2", "11.8", "13.5", "14.0"] {
            let err = check_version(&printed(version)).unwrap_err().to_string();
            assert!(err.contains(&format!("CUDA {version},")), "{err}");
        }
        assert!(check_version("nvcc fatal: no input").is_err());
    }

    #[test]
    fn toolkit_is_found_by_its_compiler_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for part in ["cuda-13/bin", "cuda-13/include", "bin", "empty"] {
            fs::create_dir_all(root.join(part)).unwrap();
        }
        fs::write(root.join("cuda-13/bin/nvcc"), "").unwrap();
        symlink("../cuda-13/bin/nvcc", root.join("bin/nvcc")).unwrap();
        let folders = env::join_paths(["empty", "bin"].map(|part| root.join(part))).unwrap();
        assert_eq!(home_of_compiler(&folders), None, "one without headers is none");
        fs::write(root.join("cuda-13/include/cuda.h"), "").unwrap();
        assert_eq!(home_of_compiler(&folders), Some(root.join("cuda-13")));
        assert_eq!(home_of_compiler(root.join("empty").as_os_str()), None);
    }

    #[test]
    fn program_that_gets_the_stub_for_the_driver_gets_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("cuda.h"), "int cuInit(unsigned flags);").unwrap();
        make_driver_stub(&file("cuda.h"), folder.path()).unwrap();
        fs::write(file("program.c"), "int cuInit(unsigned);\nint main(void) { return cuInit(0); }")
            .unwrap();
        let mut cc = Command::new("cc");
        cc.arg("-o").args([file("program"), file("program.c"), file("libcuda.so")]);
        step(&mut cc).unwrap();
        // The loader would not take it by the name that the linker took it by.
        symlink("libcuda.so", file("libcuda.so.1")).unwrap();
        let mut program = Command::new(file("program"));
        let status = program.env("LD_LIBRARY_PATH", folder.path()).status().unwrap();
        assert_eq!(status.code(), Some(STUB_ERROR));
    }

    #[test]
    fn folders_of_the_toolkit_come_first() {
        let list = before("PATH", [PathBuf::from("/toolkit/bin")]).unwrap();
        let expected = Path::new("/toolkit/bin").to_owned();
        let folders: Vec<_> = env::split_paths(&list).collect();
        assert_eq!(folders.first(), Some(&expected));
        assert!(folders.len() > 1, "the rest of the path is kept");
        // An empty entry would be the folder that one happens to be in.
        let list = before("MEAV_TEST_OF_NO_SUCH_LIST", [expected.clone()]).unwrap();
        assert_eq!(list, expected.into_os_string());
    }

    #[test]
    fn functions_of_the_driver_are_found_with_their_versions() {
        let header = "#define cuMemAlloc cuMemAlloc_v2\n\
                      /** \\sa ::cuMemFree */ typedef struct CUctx_st *CUcontext;\n\
                      CUresult CUDAAPI cuInit(unsigned int Flags); int cuda_version; custom();\n\
                      CUresult CUDAAPI cuMemAlloc(CUdeviceptr *dptr, size_t bytesize);\n";
        assert_eq!(function_names(header), ["cuInit", "cuMemAlloc", "cuMemAlloc_v2", "cuMemFree"]);
    }

    #[test]
    fn libraries_get_the_names_that_a_linker_looks_for() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libcublas.so.13", "libnvrtc-builtins.so.13.0", "libcudart_static.a"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        for _ in 0..2 {
            name_libraries(folder.path()).unwrap();
        }
        let linked = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(linked("libcublas.so").as_deref(), Some("libcublas.so.13"));
        assert_eq!(linked("libnvrtc-builtins.so").as_deref(), Some("libnvrtc-builtins.so.13.0"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }
}
