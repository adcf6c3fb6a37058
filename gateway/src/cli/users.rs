//! `openmesh user` and `openmesh key`: who is known, in `users.yaml`.
//!
//! They change the file and nothing else; a gateway that runs takes it up by itself. What is written is hashes: a key is
//! printed once, when it is made, and is nowhere afterwards.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use envelope::Timestamp;
use policy::{Attributes, NewKey, StoredPassword, User, UsersFile};
use yaml::Secret;

use super::{Failure, Invalid};
use crate::config;

/// Users.
#[derive(Debug, Args)]
pub(super) struct Users {
    #[command(subcommand)]
    command: UserCommand,
    /// The configuration; what it names is relative to its folder
    #[arg(long, global = true, default_value = "config/gateway.yaml")]
    config: PathBuf,
}

/// API keys.
#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    command: KeyCommand,
    /// The configuration; what it names is relative to its folder
    #[arg(long, global = true, default_value = "config/gateway.yaml")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Adds a user
    Add {
        /// What policies call it: `Principal::"NAME"`
        name: String,
        /// A role of it; may be given several times
        #[arg(long = "role")]
        roles: Vec<String>,
        /// Where it is, as a jurisdiction label
        #[arg(long)]
        jurisdiction: Option<String>,
        /// How far it is trusted, from 0 to 100
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
        trust: u8,
        /// A file with its password in the first line, or - for standard input
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// Removes a user with its keys; its connections are closed
    Remove {
        /// The user
        name: String,
    },
    /// Lets a user in no more, and keeps it; its connections are closed
    Disable {
        /// The user
        name: String,
    },
    /// Lets a user in again that was disabled
    Enable {
        /// The user
        name: String,
    },
    /// Gives a user another password; connections by the one before are closed
    Password {
        /// The user
        name: String,
        /// A file with the password in the first line, or - for standard input
        #[arg(long)]
        password_file: PathBuf,
    },
    /// Lists the users with their roles and the ids of their keys
    List,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Makes a key for a user and prints it, once
    New {
        /// The user
        user: String,
        /// How long it is valid, such as 90d; for ever if left out
        #[arg(long, value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
    },
    /// Removes a key by its id; its connections are closed
    Remove {
        /// The part between the two underscores: `om_ID_...`
        id: String,
    },
}

/// The longest password file, in bytes.
const MAX_PASSWORD_FILE: u64 = 4_096;

// === impl Users ===

impl Users {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        match self.command {
            UserCommand::List => Ok(list(&Held::open(&self.config)?.file, out)?),
            UserCommand::Remove { name } => Held::open(&self.config)?.change(|file| Ok(file.remove_user(&name)?)),
            UserCommand::Disable { name } => disable(&self.config, &name, true),
            UserCommand::Enable { name } => disable(&self.config, &name, false),
            UserCommand::Password { name, password_file } => {
                let stored = StoredPassword::hash(&password(&password_file)?)?;
                let held = Held::open(&self.config)?;
                held.change(|file| Ok(file.change_user(&name, |user| user.with_password(stored))?))
            }
            UserCommand::Add { name, roles, jurisdiction, trust, password_file } => {
                let mut user = User::default();
                user.roles = roles.into_iter().map(Into::into).collect();
                user.jurisdiction = jurisdiction.map(Into::into);
                user.trust = trust;
                if let Some(path) = password_file {
                    user = user.with_password(StoredPassword::hash(&password(&path)?)?);
                }
                Held::open(&self.config)?.change(|file| Ok(file.add_user(&name, user)?))
            }
        }
    }
}

fn disable(config: &Path, name: &str, disabled: bool) -> Result<(), Failure> {
    let change = |mut user: User| {
        user.disabled = disabled;
        user
    };
    Held::open(config)?.change(|file| Ok(file.change_user(name, change)?))
}

fn list(file: &UsersFile, out: &mut impl Write) -> io::Result<()> {
    for (id, user) in file.users() {
        let roles: Vec<&str> = user.roles.iter().map(|role| &**role).collect();
        let password = if user.has_password() { ", password" } else { "" };
        let disabled = if user.disabled { ", disabled" } else { "" };
        let roles = if roles.is_empty() { "none".to_owned() } else { roles.join(" ") };
        writeln!(out, "{id}: roles {roles}{password}{disabled}")?;
        for (id, expires) in user.keys() {
            let until = expires.map_or_else(|| "no end".to_owned(), |end| format!("until {end}"));
            writeln!(out, "  key {id}, {until}")?;
        }
    }
    Ok(())
}

/// The first line.
fn password(path: &Path) -> Result<Secret, Failure> {
    let mut text = String::new();
    match path.to_str() {
        Some("-") => io::stdin().take(MAX_PASSWORD_FILE).read_to_string(&mut text)?,
        _ => File::open(path)?.take(MAX_PASSWORD_FILE).read_to_string(&mut text)?,
    };
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}

// === impl Keys ===

impl Keys {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let held = Held::open(&self.config)?;
        match self.command {
            KeyCommand::Remove { id } => held.change(|file| Ok(file.remove_key(&id)?)),
            KeyCommand::New { user, expires } => {
                let key = NewKey::generate()?;
                let end = expires.map(|left| Timestamp::now().plus(left));
                held.change(|file| Ok(file.add_key(&user, &key, end)?))?;
                Ok(writeln!(out, "{}", key.key.expose())?)
            }
        }
    }
}

/// `users.yaml`, read, and nobody else's to change until this is dropped.
struct Held {
    path: PathBuf,
    file: UsersFile,
    /// What the policy file declares of users.
    declared: Attributes,
    _lock: File,
}

// === impl Held ===

impl Held {
    /// Where the configuration says. The whole configuration has to hold: what is changed is known to fit it.
    fn open(config: &Path) -> Result<Self, Failure> {
        let loaded = config::load(config).map_err(Invalid)?;
        let path = loaded.config.users.clone();
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(beside(&path, "lock"))?;
        lock.lock()?;
        // read again, now that nobody else writes it
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error.into()),
        };
        let attributes = &loaded.policy.access.attributes;
        let file = UsersFile::parse(&path.display().to_string(), &text, attributes).map_err(Invalid)?;
        Ok(Self { path, file, declared: attributes.clone(), _lock: lock })
    }

    /// Writes it as a whole or not at all: a gateway that reads meanwhile finds the one or the other.
    fn change(mut self, change: impl FnOnce(&mut UsersFile) -> Result<(), Failure>) -> Result<(), Failure> {
        change(&mut self.file)?;
        // what a gateway would refuse is not written
        let text = self.file.to_string();
        UsersFile::parse(&self.path.display().to_string(), &text, &self.declared).map_err(Invalid)?;
        let next = beside(&self.path, "next");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        // the name is on disk with its folder
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(File::open(folder)?.sync_all()?)
    }
}

/// A hidden file in the same folder.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{extension}"))
}
