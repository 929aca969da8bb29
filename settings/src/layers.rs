//! Where settings come from: a file, the drop-ins beside it, the environment.

use std::io;
use std::path::{Path, PathBuf};

/// One file's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// How errors name it.
    pub name: String,
    pub text: String,
}

#[derive(Debug, thiserror::Error)]
#[error("{} can't be read: check its path and permissions", path.display())]
pub struct LayerError {
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// `NAME.toml`, then `NAME.d/*.toml` in order of name. A missing main file is an error only where it was `named`.
pub fn layers(main: &Path, named: bool) -> Result<Vec<Layer>, LayerError> {
    let mut layers = Vec::new();
    match read(main) {
        Ok(layer) => layers.push(layer),
        Err(error) if error.cause.kind() == io::ErrorKind::NotFound && !named => {}
        Err(error) => return Err(error),
    }
    for path in drop_ins(&main.with_extension("d"))? {
        layers.push(read(&path)?);
    }
    Ok(layers)
}

/// The environment's variables; what is no UTF-8 names no key.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn read(path: &Path) -> Result<Layer, LayerError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Layer { name: path.display().to_string(), text }),
        Err(cause) => Err(LayerError { path: path.to_owned(), cause }),
    }
}

fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, LayerError> {
    let failed = |cause| LayerError { path: directory.to_owned(), cause };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(cause) => return Err(failed(cause)),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_follow_the_file_in_order_of_name() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("agent.toml");
        assert!(layers(&main, false).unwrap().is_empty());
        assert!(layers(&main, true).is_err());
        std::fs::create_dir(dir.path().join("agent.d")).unwrap();
        for name in ["agent.toml", "agent.d/20.toml", "agent.d/10.toml", "agent.d/README"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let texts: Vec<String> = layers(&main, true).unwrap().into_iter().map(|layer| layer.text).collect();
        assert_eq!(texts, ["agent.toml", "agent.d/10.toml", "agent.d/20.toml"]);
    }
}
