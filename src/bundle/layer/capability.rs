//! Capabilities of files, `security.capability` (capabilities(7), "File capability extended attribute versioning"): in a
//! container with users of its own the kernel writes down for whose root they are (version 3), where a file that is
//! anybody's has none (version 2). Each has a word of flags and version, two sets of two words, and in version 3 the
//! root's number on the host; words are little-endian.

use crate::container::ids::Ids;

const VERSION_2: u8 = 2;
const VERSION_3: u8 = 3;
/// The bytes of the sets.
const SETS: usize = 16;

/// As the container has it: the capabilities that are for its own root are for everybody's.
pub fn seen_inside(value: Vec<u8>, ids: Option<&Ids>) -> Vec<u8> {
    match &value[..] {
        [flags, 0, 0, VERSION_3, sets @ .., a, b, c, d] if sets.len() == SETS => {
            let root = u32::from_le_bytes([*a, *b, *c, *d]);
            if ids.map_or(root, |ids| ids.seen_inside(root, 0).0) != 0 {
                return value;
            }
            [&[*flags, 0, 0, VERSION_2], sets].concat()
        }
        _ => value,
    }
}

/// As the host writes it into a container that runs: what is everybody's is for the container's root.
pub fn on_host(value: &[u8], ids: Option<&Ids>) -> Vec<u8> {
    match (value, ids.and_then(|ids| ids.given_to(0, 0))) {
        ([flags, 0, 0, VERSION_2, sets @ ..], Some((root, _))) if sets.len() == SETS => {
            [&[*flags, 0, 0, VERSION_3], sets, &root.to_le_bytes()].concat()
        }
        _ => value.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let everybodys = [&[1, 0, 0, 2, 0, 0x20][..], &[0; 14]].concat();
        let ids = Ids::block(300_000, 1000);
        let own = on_host(&everybodys, Some(&ids));
        assert_eq!((own.len(), own[3], &own[20..]), (24, 3, &300_000_u32.to_le_bytes()[..]));
        assert_eq!(seen_inside(own.clone(), Some(&ids)), everybodys);
        // Not ours to say.
        assert_eq!(seen_inside(own.clone(), None), own);
        assert_eq!(on_host(&everybodys, None), everybodys);
        assert_eq!(seen_inside(own.clone(), Some(&Ids::block(1, 10))), own);
        for broken in [&[][..], &[1, 0, 0, 3], &[1, 0, 0, 2, 5], &own[..23]] {
            assert_eq!(
                (seen_inside(broken.to_vec(), Some(&ids)), on_host(broken, Some(&ids))),
                (broken.into(), broken.into())
            );
        }
    }
}
