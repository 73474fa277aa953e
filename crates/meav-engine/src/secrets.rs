//! Keys of endpoints, in the desktop's own store of secrets (the Secret Service: GNOME Keyring,
//! `KWallet`, `KeePassXC`). They are in no file of ours, no log and no event.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use keyring_core::{CredentialStore, Entry, Error};
use meav_eval::judge::{Address, ApiKey};
use meav_job::{Cancelled, JobCtx};
use zbus_secret_service_keyring_store::Store;

/// What our entries are called in the store.
const SERVICE: &str = "meav-studio";

/// How long the store may take: it may be asking the user for its password.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long a cancellation may go unseen.
const TICK: Duration = Duration::from_millis(100);

/// Why the store of secrets keeps or gives no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SecretsError {
    /// There is no session bus, or nobody on it keeps secrets.
    #[error("this desktop has no store of secrets")]
    NoStore {
        /// What the bus says.
        source: Error,
    },
    /// The user left it locked, or there is no window to ask for its password in.
    #[error("the desktop's store of secrets is locked")]
    Locked {
        /// What the store says.
        source: Error,
    },
    /// It failed in another way.
    #[error("the desktop's store of secrets failed")]
    Failed {
        /// What the store says.
        source: Error,
    },
    /// It neither did what was asked nor refused.
    #[error("the desktop's store of secrets did not answer within {} s", limit.as_secs())]
    TimedOut {
        /// How long it was waited for.
        limit: Duration,
    },
    /// What it holds can be no key.
    #[error("what the desktop's store of secrets holds is no key")]
    NoKey {
        /// What is wrong with it.
        source: meav_eval::judge::InvalidKey,
    },
    /// The system gave no thread to wait on.
    #[error("no thread could be started to wait for the store of secrets")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
    /// See [`Cancelled`].
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// The keys of endpoints, one for each address.
///
/// The store is opened anew for each call: the user may start or unlock one meanwhile.
pub(crate) struct Secrets {
    open: fn() -> keyring_core::Result<Arc<CredentialStore>>,
    patience: Duration,
}

impl Secrets {
    /// The desktop's own.
    pub(crate) fn of_desktop() -> Self {
        Self { open: || Ok(Store::new()?), patience: PATIENCE }
    }

    /// Keeps the key, in place of an older one for the same address.
    ///
    /// # Errors
    ///
    /// A [`SecretsError`] if there is no store, or it refuses or does not answer.
    pub(crate) fn keep(&self, address: &Address, key: ApiKey) -> Result<(), SecretsError> {
        self.with_entry(address, &JobCtx::detached(), move |entry| entry.set_password(key.expose()))
    }

    /// The key that is kept for this address, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Secrets::keep`].
    pub(crate) fn key_for(&self, address: &Address) -> Result<Option<ApiKey>, SecretsError> {
        self.key_for_job(address, &JobCtx::detached())
    }

    /// The same for a job, which does not wait for the store once it is cancelled.
    ///
    /// # Errors
    ///
    /// As [`Secrets::keep`], and [`SecretsError::Cancelled`].
    pub(crate) fn key_for_job(
        &self,
        address: &Address,
        job: &JobCtx<'_>,
    ) -> Result<Option<ApiKey>, SecretsError> {
        let res = self.with_entry(address, job, |entry| match entry.get_password() {
            Err(Error::NoEntry) => Ok(None),
            // A key that no header could carry was not put there by us.
            res => res.map(|text| Some(ApiKey::new(&text))),
        })?;
        res.transpose().map_err(|source| SecretsError::NoKey { source })
    }

    /// Forgets the key for this address; no error if there is none.
    ///
    /// # Errors
    ///
    /// As [`Secrets::keep`].
    pub(crate) fn forget(&self, address: &Address) -> Result<(), SecretsError> {
        self.with_entry(address, &JobCtx::detached(), |entry| match entry.delete_credential() {
            Err(Error::NoEntry) => Ok(()),
            res => res,
        })
    }

    /// Does something with the entry for `address`, on a thread that may outlive the call: nothing
    /// ends a store's wait for the user.
    fn with_entry<T: Send + 'static>(
        &self,
        address: &Address,
        job: &JobCtx<'_>,
        act: impl FnOnce(&Entry) -> keyring_core::Result<T> + Send + 'static,
    ) -> Result<T, SecretsError> {
        let (open, address) = (self.open, address.url().to_owned());
        let work = move || {
            let store = open().map_err(|source| SecretsError::NoStore { source })?;
            store.build(SERVICE, &address, None).and_then(|entry| act(&entry)).map_err(refusal)
        };
        let (sender, receiver) = sync_channel(1);
        thread::Builder::new()
            .name("secrets".to_owned())
            // Nobody listens any more after the time limit.
            .spawn(move || drop(sender.send(work())))
            .map_err(|source| SecretsError::Thread { source })?;
        let end = Instant::now() + self.patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left.min(TICK)) {
                Ok(res) => return res,
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => job.check()?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(SecretsError::TimedOut { limit: self.patience });
                }
            }
        }
    }
}

fn refusal(source: Error) -> SecretsError {
    match source {
        // These hold the bytes of the secret, which no chain of errors may carry into a log.
        Error::BadEncoding(_) | Error::BadDataFormat(..) => {
            SecretsError::NoKey { source: meav_eval::judge::InvalidKey::Characters }
        }
        Error::NoStorageAccess(_) => SecretsError::Locked { source },
        source => SecretsError::Failed { source },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use keyring_core::api::CredentialStoreApi as _;
    use keyring_core::mock;

    use super::*;

    static MOCK: LazyLock<Arc<mock::Store>> = LazyLock::new(|| mock::Store::new().unwrap());

    fn in_memory() -> Secrets {
        Secrets { open: || Ok(MOCK.clone()), patience: Duration::from_secs(20) }
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn a_key_is_kept_for_its_address_until_it_is_forgotten() {
        let (secrets, here) = (in_memory(), address("https://kept.example.com"));
        let key = |address: &Address| {
            secrets.key_for(address).unwrap().map(|key| key.expose().to_owned())
        };
        assert_eq!(key(&here), None);
        for text in ["sk-1", "sk-2"] {
            secrets.keep(&here, ApiKey::new(text).unwrap()).unwrap();
            assert_eq!(key(&here).as_deref(), Some(text));
        }
        assert_eq!(key(&address("https://other.example.com")), None);
        secrets.forget(&here).unwrap();
        assert_eq!(key(&here), None);
        secrets.forget(&here).unwrap();
    }

    #[test]
    fn what_is_no_key_is_not_shown() {
        let (secrets, here) = (in_memory(), address("https://spoilt.example.com"));
        for spoilt in [&b"secret 1"[..], b"secret \xff"] {
            let entry = MOCK.build(SERVICE, here.url(), None).unwrap();
            entry.set_secret(spoilt).unwrap();
            let err = secrets.key_for(&here).unwrap_err();
            assert!(matches!(err, SecretsError::NoKey { .. }), "{err:?}");
            assert!(!format!("{err:?}").contains("secret 1"), "{err:?}");
        }
    }

    #[test]
    fn no_store_is_an_error_and_a_silent_one_too() {
        let none = Secrets { open: || Err(Error::NoDefaultStore), ..in_memory() };
        let err = none.key_for(&address("https://example.com")).unwrap_err();
        assert!(matches!(err, SecretsError::NoStore { .. }), "{err:?}");

        let silent = Secrets {
            open: || {
                thread::park_timeout(Duration::from_secs(20));
                Err(Error::NoDefaultStore)
            },
            patience: Duration::from_millis(50),
        };
        let err = silent.key_for(&address("https://example.com")).unwrap_err();
        assert!(matches!(err, SecretsError::TimedOut { .. }), "{err:?}");
    }

    #[test]
    fn a_cancelled_job_does_not_wait_for_a_store_that_asks_the_user() {
        let asking = Secrets {
            open: || {
                thread::park_timeout(Duration::from_secs(20));
                Err(Error::NoDefaultStore)
            },
            patience: Duration::from_secs(20),
        };
        let cancel = meav_job::CancelToken::default();
        let job = JobCtx::new(cancel.clone(), &|_| {});
        let start = Instant::now();
        let err = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(50));
                cancel.cancel();
            });
            asking.key_for_job(&address("https://asking.example.com"), &job).unwrap_err()
        });
        assert!(matches!(err, SecretsError::Cancelled(_)), "{err:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}
