use std::path::{self, Path, PathBuf};

/// Chat with a language model whose weights you move while you talk.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "meav-studio",
    version,
    after_help = "Where there is no display, `meav chat` works in a terminal."
)]
pub(crate) struct Args {
    /// Models, vectors, adapters and recipes to open
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Args {
    /// The files, as someone in `folder` means them.
    pub(crate) fn paths_from(self, folder: &Path) -> Vec<PathBuf> {
        let absolute = |file| {
            let path = folder.join(file);
            path::absolute(&path).unwrap_or(path)
        };
        self.files.into_iter().map(absolute).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use clap::Parser as _;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn files_are_meant_from_where_the_program_was_started() {
        let args = Args::parse_from(["meav-studio", "tone.safetensors", "./a/b.gguf", "/c"]);
        let paths = args.paths_from(Path::new("/home/ada"));
        assert_eq!(
            paths,
            ["/home/ada/tone.safetensors", "/home/ada/a/b.gguf", "/c"].map(PathBuf::from)
        );
    }

    #[test]
    fn names_need_not_be_utf_8() {
        let name = OsString::from_vec(b"\xff.gguf".to_vec());
        let args = Args::parse_from([OsString::from("meav-studio"), name.clone()]);
        assert_eq!(args.paths_from(Path::new("/")), [Path::new("/").join(name)]);
    }

    #[test]
    fn unknown_flags_are_refused() {
        let err = Args::try_parse_from(["meav-studio", "--frobnicate"]).unwrap_err();
        assert_eq!((err.kind(), err.exit_code()), (ErrorKind::UnknownArgument, 2));
    }
}
