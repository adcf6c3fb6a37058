//! Who is known and what they may do: `users.yaml` and the folder `policies`, read with the policy file that they fit.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::Arc,
};

use policy::{
    Fetched, Issuers, KeySet, Keys, KeysFrom, KnownNames, Policies, PolicyConfig, PolicySource, Revoked, TokenConfig,
    UsersFile,
};
use yaml::Diagnostic;

use super::files::{self, TextFile};

/// An issuer with its keys, where these are in a file, and what it has revoked.
type Issuer = (Arc<TokenConfig>, Option<Arc<KeySet>>, Arc<Revoked>);

/// What the files beside the policy file say.
#[derive(Debug)]
pub struct Guards {
    /// `users.yaml`.
    pub users: UsersFile,
    /// The Cedar policies.
    pub policies: Arc<Policies>,
    /// Whose tokens are accepted.
    issuers: Vec<Issuer>,
    /// Of all that the files say.
    digest: u64,
}

/// The longest `users.yaml`, and the longest file of the folder `policies`, in bytes.
const MAX_FILE: u64 = yaml::MAX_BYTES as u64;

// === impl Guards ===

impl Guards {
    /// Reads both. A file or folder that is not there says nothing: nobody is known, and nothing permitted. One that `gateway.yaml` names has to
    /// be there, which is checked where it is named.
    pub(super) fn load(
        users: &Path,
        policies: &Path,
        config: &PolicyConfig,
        names: KnownNames<'_>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let before = found.len();
        let mut hasher = DefaultHasher::new();
        let users = load_users(users, config, &mut hasher, found);
        let files = match policies.exists() {
            true => files::read_all(policies, files::POLICIES, MAX_FILE, found),
            false => Vec::new(),
        };
        for TextFile { name, text, .. } in &files {
            (name, text).hash(&mut hasher);
        }
        let cedar: Vec<_> = files
            .iter()
            .filter(|file| file.path.ends_with(".cedar"))
            .map(|file| PolicySource { path: &file.path, name: &file.name, text: &file.text })
            .collect();
        let (policies, wrong) = Policies::load_knowing(&cedar, &config.access, names);
        found.extend(wrong);
        let policies = Arc::new(policies);
        let issuers = config.tokens.iter().filter_map(|token| {
            let (keys, revoked) = (keys(token, &files, found), revoked(token, &files, found));
            Some((token.clone(), keys?, revoked?))
        });
        let issuers = issuers.collect();
        (found.len() == before).then_some(Self { users: users?, policies, issuers, digest: hasher.finish() })
    }

    /// Tells two of them apart.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// The issuers with their keys; those that have to be fetched are those that were fetched last.
    pub(crate) fn issuers(&self, fetched: &Fetched) -> Issuers {
        let keys = |(config, read, revoked): &Issuer| {
            let keys = match (&config.keys, read) {
                (KeysFrom::Url { url, .. }, _) => Keys::Fetched(fetched.at(url)),
                (KeysFrom::File(_), Some(keys)) => Keys::Read(keys.clone()),
                (KeysFrom::File(_), None) => Keys::Read(Arc::default()),
            };
            (config.clone(), keys, revoked.clone())
        };
        Issuers::new(self.issuers.iter().map(keys))
    }
}

fn load_users(
    path: &Path,
    config: &PolicyConfig,
    hasher: &mut DefaultHasher,
    found: &mut Vec<Diagnostic>,
) -> Option<UsersFile> {
    if !path.exists() {
        return Some(UsersFile::default());
    }
    match files::read(path, MAX_FILE) {
        Ok(text) => {
            text.hash(hasher);
            let users = UsersFile::parse(&path.display().to_string(), &text, &config.access.attributes);
            users.map_err(|all| found.extend(all)).ok()
        }
        Err(error) => {
            found.push(files::unreadable(path, &error));
            None
        }
    }
}

/// The keys that an issuer has in a file of the folder `policies`, if it has.
fn keys(token: &TokenConfig, files: &[TextFile], found: &mut Vec<Diagnostic>) -> Option<Option<Arc<KeySet>>> {
    let KeysFrom::File(name) = &token.keys else { return Some(None) };
    let file = beside(name, &[".json"], &format!("the keys of issuer {:?}", token.name), files, found)?;
    match KeySet::parse(file.text.as_bytes()) {
        Ok(keys) => Some(Some(Arc::new(keys))),
        Err(error) => {
            found.push(Diagnostic::of_file(file.path.clone(), "bad-keys", error.to_string()));
            None
        }
    }
}

/// What an issuer has revoked, by the file that its section names.
fn revoked(token: &TokenConfig, files: &[TextFile], found: &mut Vec<Diagnostic>) -> Option<Arc<Revoked>> {
    let Some(name) = &token.revoked else { return Some(Arc::default()) };
    let what = format!("what issuer {:?} has revoked", token.name);
    let file = beside(name, &[".yaml", ".yml"], &what, files, found)?;
    let revoked = Revoked::parse(&file.path, &file.text);
    revoked.map(Arc::new).map_err(|all| found.extend(all)).ok()
}

/// The file of this name in the folder of the policies; it may be named without what its name ends in.
fn beside<'f>(
    name: &str,
    ends: &[&str],
    what: &str,
    files: &'f [TextFile],
    found: &mut Vec<Diagnostic>,
) -> Option<&'f TextFile> {
    let end = |file: &TextFile| ends.iter().find(|end| file.path.ends_with(**end)).copied();
    let full = |file: &TextFile| end(file).map(|end| format!("{}{end}", file.name));
    let fits = |file: &&TextFile| full(file).is_some_and(|full| full == name || file.name == name);
    let file = files.iter().find(fits);
    if file.is_none() {
        let names: Vec<_> = files.iter().filter_map(full).collect();
        let message = format!("{name:?} is not in the folder of the policies: {what}");
        let help = format!("there are: {}", names.join(", "));
        found.push(Diagnostic::of_file(name, "unknown-name", message).with_help(help));
    }
    file
}
