//! What the environment and the home directory say: where state and configuration lie, credentials, proxies.
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use rhost_engine::{
    BuildError, CredentialSource, DockerConfig, Embedded, EngineOptions, GitOptions, HelperEnvironment, Kind, Proxies,
    Settings,
};
use rhost_exec::UserNamespace;
use rhost_toolchain::Machine;

use crate::arguments::Arguments;

/// Begins with a page, where pages are not larger than usual.
#[repr(C, align(4096))]
struct Page<T: ?Sized>(T);

static STOCK_CODE: &Page<[u8]> = &Page(*include_bytes!(concat!(env!("OUT_DIR"), "/dockerfile.code")));

/// Code is there where the build made it (`cargo xtask build`); without, the component is compiled at its first use.
pub static STOCK_FRONTEND: Embedded =
    Embedded { component: include_bytes!(concat!(env!("OUT_DIR"), "/dockerfile.wasm")), code: &STOCK_CODE.0 };

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A directory of the XDG base directory specification: `$NAME`, else below the home directory.
fn xdg(name: &str, below_home: &str) -> Result<PathBuf, BuildError> {
    if let Some(directory) = variable(name).map(PathBuf::from).filter(|directory| directory.is_absolute()) {
        return Ok(directory.join("rhost"));
    }
    let home = variable("HOME").ok_or_else(|| {
        BuildError::new(Kind::Request, format!("neither {name} nor HOME is set"))
            .hint("name a directory with --root, a file with --config")
    })?;
    Ok(PathBuf::from(home).join(below_home).join("rhost"))
}

/// What the configuration file says.
///
/// # Errors
/// It cannot be read, or is wrong.
pub fn settings(arguments: &Arguments) -> Result<Settings, BuildError> {
    let (path, asked) = match &arguments.config {
        Some(path) => (path.clone(), true),
        None => match xdg("XDG_CONFIG_HOME", ".config") {
            Ok(directory) => (directory.join("rhost.toml"), false),
            Err(_) => return Ok(Settings::default()),
        },
    };
    let wrong = |error: &dyn std::fmt::Display| {
        BuildError::new(Kind::Request, format!("configuration `{}`: {error}", path.display()))
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Settings::read(&path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !asked => Ok(Settings::default()),
        Err(error) => Err(wrong(&error).hint("name another file with --config or RHOST_CONFIG, or leave them out")),
    }
}

/// Docker's file first, then podman's.
fn credentials() -> Arc<dyn CredentialSource> {
    let mut files = Vec::new();
    if let Some(directory) = variable("DOCKER_CONFIG") {
        files.push(PathBuf::from(directory).join("config.json"));
    } else if let Some(home) = variable("HOME") {
        files.push(PathBuf::from(home).join(".docker/config.json"));
    }
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        files.push(file.into());
    }
    if let Some(directory) = variable("XDG_RUNTIME_DIR") {
        files.push(PathBuf::from(directory).join("containers/auth.json"));
    }
    let environment = HelperEnvironment {
        search: variable("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
        variables: std::env::vars_os().collect(),
    };
    Arc::new(DockerConfig::new(files, environment))
}

fn proxies() -> Proxies {
    let text = |names: [&str; 2]| names.into_iter().find_map(variable).and_then(|value| value.into_string().ok());
    Proxies {
        http: text(["http_proxy", "HTTP_PROXY"]),
        https: text(["https_proxy", "HTTPS_PROXY"]),
        except: text(["no_proxy", "NO_PROXY"]),
    }
}

fn git() -> GitOptions {
    let known_hosts = variable("HOME").map(|home| PathBuf::from(home).join(".ssh/known_hosts"));
    GitOptions {
        programs: variable("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
        known_hosts: known_hosts.filter(|path| path.is_file()),
    }
}

/// What the building of frontends is told of this machine.
///
/// # Errors
/// There is no place for toolchains.
pub fn machine(may_fetch: bool, say: &dyn Fn(&str)) -> Result<Machine<'_>, BuildError> {
    let cargo_home = variable("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    Ok(Machine {
        cargo_home: cargo_home.unwrap_or_default(),
        toolchains: xdg("XDG_CACHE_HOME", ".cache")?.join("wasm-toolchain"),
        way: "auto".into(),
        may_alter_rustup: false,
        may_fetch,
        say,
    })
}

/// Everything that the engine is made with.
///
/// # Errors
/// No place for state is named, or the configuration is wrong.
pub fn options(arguments: &Arguments, namespace: UserNamespace) -> Result<EngineOptions, BuildError> {
    let root = match &arguments.root {
        Some(root) => std::path::absolute(root).map_err(|error| BuildError::new(Kind::Request, error))?,
        None => xdg("XDG_DATA_HOME", ".local/share")?,
    };
    let program = std::env::current_exe()
        .map_err(|error| BuildError::new(Kind::Frontend, format!("this program does not find itself: {error}")))?;
    Ok(EngineOptions {
        root,
        settings: settings(arguments)?,
        credentials: credentials(),
        proxies: proxies(),
        git: git(),
        stock_frontend: STOCK_FRONTEND,
        compiler: (program, vec![crate::COMPILE_GUEST.into()]),
        single_id: namespace == UserNamespace::SingleId,
        user_namespace: namespace != UserNamespace::NotNeeded || rhost_exec::in_user_namespace(),
    })
}
