//! A zip archive of one stored file, made around it: the file itself is sent as it lies on the disk.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use jiff::Timestamp;

/// The bytes before and after the content of `path` in an archive that holds it under `name`. Always in the form for
/// large files (zip64), which every reader of today knows.
///
/// # Errors
/// The file cannot be read.
pub(super) fn stored(path: &Path, name: &str, at: Timestamp) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut crc = flate2::Crc::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0_u64;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        crc.update(&buffer[..length]);
        size += length as u64;
    }
    let name = name.replace(['/', '\\'], "_").into_bytes();
    let length = u16::try_from(name.len()).map_err(std::io::Error::other)?;
    let time = at.to_zoned(jiff::tz::TimeZone::UTC);
    let clock = (u16::try_from(time.hour()).unwrap_or(0) << 11)
        | (u16::try_from(time.minute()).unwrap_or(0) << 5)
        | (u16::try_from(time.second()).unwrap_or(0) / 2);
    let years = u16::try_from(time.year().saturating_sub(1980)).unwrap_or(0);
    let date = (years << 9) | (u16::try_from(time.month()).unwrap_or(1) << 5) | u16::try_from(time.day()).unwrap_or(1);
    let common = |out: &mut Vec<u8>| {
        // Needs version 4.5; names are UTF-8; not compressed.
        for field in [45_u16, 0x0800, 0, clock, date] {
            out.extend(field.to_le_bytes());
        }
        out.extend(crc.sum().to_le_bytes());
        out.extend([0xff; 8]);
        out.extend(length.to_le_bytes());
    };
    let sizes = |out: &mut Vec<u8>, offset: bool| {
        out.extend(1_u16.to_le_bytes());
        out.extend((if offset { 24_u16 } else { 16 }).to_le_bytes());
        out.extend(size.to_le_bytes());
        out.extend(size.to_le_bytes());
        if offset {
            out.extend(0_u64.to_le_bytes());
        }
    };
    let mut before = 0x0403_4b50_u32.to_le_bytes().to_vec();
    common(&mut before);
    before.extend(20_u16.to_le_bytes());
    before.extend(&name);
    sizes(&mut before, false);

    let mut after = 0x0201_4b50_u32.to_le_bytes().to_vec();
    after.extend(0x032d_u16.to_le_bytes());
    common(&mut after);
    after.extend(28_u16.to_le_bytes());
    after.extend([0; 6]);
    after.extend((0o100_644_u32 << 16).to_le_bytes());
    after.extend([0xff; 4]);
    after.extend(&name);
    sizes(&mut after, true);
    let directory = after.len() as u64;
    let start = before.len() as u64 + size;
    after.extend(0x0606_4b50_u32.to_le_bytes());
    after.extend(44_u64.to_le_bytes());
    after.extend(0x032d_u16.to_le_bytes());
    after.extend(45_u16.to_le_bytes());
    after.extend([0; 8]);
    for field in [1, 1, directory, start] {
        after.extend(u64::to_le_bytes(field));
    }
    after.extend(0x0706_4b50_u32.to_le_bytes());
    after.extend([0; 4]);
    after.extend((start + directory).to_le_bytes());
    after.extend(1_u32.to_le_bytes());
    after.extend(0x0605_4b50_u32.to_le_bytes());
    after.extend([0; 4]);
    after.extend([0xff; 12]);
    after.extend([0; 2]);
    Ok((before, after))
}
