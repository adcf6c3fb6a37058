//! What the listener keeps on disk, as bytes: numbers in network order, texts and lists with their length before them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use envelope::Qos;
use uuid::Uuid;

use super::packet::qos_of;

/// Why stored state is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("state of format {0}, which is not known here")]
    Format(u8),
    #[error("state that is cut or damaged")]
    Damaged,
}

/// Reads what was written.
pub(super) struct Reader(Bytes);

/// A difference that may be negative, small where it is little.
pub(super) const fn zigzag(difference: u32) -> u32 {
    difference << 1 ^ ((difference as i32) >> 31) as u32
}

pub(super) const fn unzigzag(value: u32) -> u32 {
    value >> 1 ^ (value & 1).wrapping_neg()
}

pub(super) fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

/// Whether there is one, and it.
pub(super) fn put_option<T>(out: &mut BytesMut, value: Option<T>, put: impl FnOnce(&mut BytesMut, T)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(super) fn put_list<T>(
    out: &mut BytesMut,
    all: impl ExactSizeIterator<Item = T>,
    mut put: impl FnMut(&mut BytesMut, T),
) {
    out.put_u32(all.len() as u32);
    all.for_each(|one| put(out, one));
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), SnapshotError> {
        if self.0.is_empty() { Ok(()) } else { Err(SnapshotError::Damaged) }
    }

    /// All that is left.
    pub(super) fn rest(self) -> Bytes {
        self.0
    }

    pub(super) fn qos(&mut self) -> Result<Qos, SnapshotError> {
        qos_of(self.u8()?).ok_or(SnapshotError::Damaged)
    }

    pub(super) fn u8(&mut self) -> Result<u8, SnapshotError> {
        Ok(self.take(1)?.get_u8())
    }

    pub(super) fn u16(&mut self) -> Result<u16, SnapshotError> {
        Ok(self.take(2)?.get_u16())
    }

    pub(super) fn u32(&mut self) -> Result<u32, SnapshotError> {
        Ok(self.take(4)?.get_u32())
    }

    pub(super) fn u64(&mut self) -> Result<u64, SnapshotError> {
        Ok(self.take(8)?.get_u64())
    }

    pub(super) fn varint(&mut self) -> Result<u32, SnapshotError> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(SnapshotError::Damaged)
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, SnapshotError> {
        Uuid::from_slice(&self.take(16)?).map_err(|_| SnapshotError::Damaged)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, SnapshotError> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    pub(super) fn text(&mut self) -> Result<ByteString, SnapshotError> {
        ByteString::try_from(self.bytes()?).map_err(|_| SnapshotError::Damaged)
    }

    pub(super) fn option<T>(
        &mut self,
        one: impl FnOnce(&mut Self) -> Result<T, SnapshotError>,
    ) -> Result<Option<T>, SnapshotError> {
        match self.u8()? {
            0 => Ok(None),
            1 => one(self).map(Some),
            _ => Err(SnapshotError::Damaged),
        }
    }

    pub(super) fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<T, SnapshotError>,
    ) -> Result<Vec<T>, SnapshotError> {
        let length = self.u32()?;
        (0..length).map(|_| one(self)).collect()
    }

    fn take(&mut self, bytes: usize) -> Result<Bytes, SnapshotError> {
        if self.0.len() < bytes { Err(SnapshotError::Damaged) } else { Ok(self.0.split_to(bytes)) }
    }
}
