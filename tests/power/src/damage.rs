//! Damage that no program did: a file's bytes change while nobody looks.

use std::path::Path;

use crate::Disk;
use crate::rng::Rng;

/// What a sector, a page or a careless hand loses at once, bytes.
const BLOCKS: [usize; 3] = [512, 4096, 8192];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    Bit,
    Zeros,
    Noise,
    Truncation,
    Swap,
    Stale,
    Gone,
}

pub const DAMAGES: [Damage; 7] =
    [Damage::Bit, Damage::Zeros, Damage::Noise, Damage::Truncation, Damage::Swap, Damage::Stale, Damage::Gone];

/// Damages the file, where there is one; `stale` is what it held before. Says what was done.
pub fn damage(disk: &Disk, path: &Path, kind: Damage, stale: Option<Vec<u8>>, rng: &mut Rng) -> String {
    let Some(mut content) = disk.content(path).filter(|content| !content.is_empty()) else {
        return "there was no such file".to_owned();
    };
    let block = BLOCKS[rng.below(BLOCKS.len())];
    let blocks = content.len().div_ceil(block);
    let at = rng.below(blocks) * block;
    let end = (at + block).min(content.len());
    let mut done = format!("{kind:?} of {} bytes at {at} of {}", end - at, content.len());
    match kind {
        Damage::Bit => {
            let at = rng.below(content.len());
            content[at] ^= 1 << rng.below(8);
            done = format!("a bit of byte {at} of {}", content.len());
        }
        Damage::Zeros => content[at..end].fill(0),
        Damage::Noise => content[at..end].fill_with(|| rng.number().to_le_bytes()[0]),
        Damage::Truncation => {
            let length = if rng.one_in(2) { at } else { rng.below(content.len()) };
            content.truncate(length);
            done = format!("cut off at {length}");
        }
        Damage::Swap => {
            let other = rng.below(blocks) * block;
            if other + block <= content.len() && at + block <= content.len() {
                for n in 0..block {
                    content.swap(at + n, other + n);
                }
            }
            done = format!("blocks of {block} at {at} and {other} swapped");
        }
        Damage::Stale => {
            content = stale.unwrap_or_default();
            done = format!("an older copy of {} bytes", content.len());
        }
        Damage::Gone => {
            disk.replace(path, None);
            return "removed".to_owned();
        }
    }
    disk.replace(path, Some(content));
    done
}
