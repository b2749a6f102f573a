//! Which state a job on a host belongs to: several daemons may use one account of one machine.

use super::codec::{decode, encode};
use super::trees::{Name, Write};
use super::{Store, StoreError};

pub(super) const IDENTITY: &[u8] = b"identity";

impl Store {
    /// Eight hexadecimal digits, random when first asked for and the same ever after. A state that is copied keeps
    /// its own, so that two copies of one job meet on the host and the second is refused; a state that begins anew gets
    /// another, so that what an earlier one left on a host is not in its way.
    ///
    /// # Errors
    /// The record cannot be read, understood or written.
    pub async fn identity(&self) -> Result<String, StoreError> {
        if let Some(value) = self.trees().get(Name::Meta, IDENTITY)? {
            return decode("identity", &value);
        }
        let mut random = [0; 4];
        aws_lc_rs::rand::fill(&mut random)
            .map_err(|_| StoreError::Read("this machine gives no random numbers".to_owned()))?;
        let identity: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.inner.writer.commit(vec![Write::put(Name::Meta, IDENTITY.to_vec(), encode(&identity))]).await?;
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::Store;

    #[tokio::test]
    async fn a_state_and_its_copies_have_one_identity() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&directory.path().join("one")).unwrap();
        let identity = store.identity().await.unwrap();
        assert_eq!(identity.len(), 8);
        assert_eq!(store.identity().await.unwrap(), identity);
        assert!(store.is_empty().unwrap(), "an import must still be possible");
        let export = directory.path().join("export");
        store.export(jiff::Timestamp::UNIX_EPOCH, &export).unwrap();
        let (copy, _) = Store::open(&directory.path().join("two")).unwrap();
        assert_ne!(copy.identity().await.unwrap(), identity);
        copy.import(&export).unwrap();
        assert_eq!(copy.identity().await.unwrap(), identity);
    }
}
