//! Frames of zstd: one per CAR of a segment, and one that is the index of a segment in an object
//! store.
//!
//! Whoever may write to a bucket may put anything there. So decompressing has the bounds that
//! bodies over HTTP have ([`fetch::packed`]): windows of 8 MiB, and 100 times the compressed size.
//! An index has a bound of its own, and of all that read CARs, [`Decoders`] lets as many
//! decompress as there is memory for.
//!
//! The few CARs that compress better than that get bytes behind their frame which decoders skip.
//! So everything that skyfill writes can be read.

use crate::LEVEL;
use fetch::{Body, Incoming, MAX_RATIO, Spool, packed};
use std::io::{self, BufReader, Read, Write};
use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes that a decoder reads at once.
const READ: usize = 128 << 10;
/// What decompressing takes: the largest window of zstd that is accepted, a piece of an object of
/// 8 MiB, and buffers.
const DECODER: u64 = 18 << 20;
/// Decoders that work at once, at most.
const MOST_DECODERS: u64 = 64;
/// What a frame begins with that decoders skip, before its length.
const SKIPPED: u32 = 0x184d_2a50;
/// Bytes before the content of such a frame.
const SKIPPED_HEAD: u64 = 8;
/// Lines of the index of a segment, in bytes: a writer ends a segment that has as many.
pub(crate) const INDEX_LINES: usize = 8 << 20;
/// Largest index of a segment that is read, decompressed.
const MOST_LINES: u64 = 16 << 20;

/// Writes the frame of a CAR; its length.
pub(crate) fn write(to: impl Write, car: &[u8]) -> io::Result<u64> {
    let mut to = Counted { to, bytes: 0 };
    let mut encoder = zstd::Encoder::new(&mut to, LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.write_all(car)?;
    encoder.finish()?;
    let lacks = packed::least(car.len() as u64).saturating_sub(to.bytes);
    if lacks > 0 {
        let content = u32::try_from(lacks.saturating_sub(SKIPPED_HEAD)).unwrap_or(u32::MAX);
        to.write_all(&SKIPPED.to_le_bytes())?;
        to.write_all(&content.to_le_bytes())?;
        io::copy(&mut io::repeat(0).take(u64::from(content)), &mut to)?;
    }
    Ok(to.bytes)
}

/// Counts what is written.
struct Counted<W> {
    to: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.bytes = self.bytes.saturating_add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Decompresses a frame of `bytes` bytes, which the index says to be a CAR of `car`; `each` gets
/// what is read.
pub(crate) fn unpack(
    frame: impl Read,
    (bytes, car): (u64, u64),
    (most_memory, spool): (usize, &Spool),
    mut each: impl FnMut(&[u8]),
) -> io::Result<Body> {
    if car > packed::most(bytes) {
        return Err(wrong(format!(
            "its {bytes} bytes decompress to {car}, as the index says: more than {MAX_RATIO} times as many"
        )));
    }
    let frame = BufReader::with_capacity(READ, frame);
    let mut decoder = packed::zstd(frame)?.single_frame();
    let mut body = Incoming::new(most_memory, spool, "the archive");
    let mut chunk = vec![0; 256 << 10];
    loop {
        let length = decoder.read(&mut chunk).map_err(packed::explained)?;
        let read = chunk.get(..length).unwrap_or_default();
        if read.is_empty() {
            break;
        }
        each(read);
        body.push(read)?;
        if body.total() > car {
            return Err(wrong("it is longer than the index says"));
        }
    }
    match body.total() == car {
        true => body.finish(),
        false => Err(wrong("it is shorter than the index says")),
    }
}

/// The lines of the index of a segment, which has `bytes` bytes.
pub(crate) fn index(
    content: impl Read + Send + 'static,
    bytes: u64,
) -> io::Result<Box<dyn Read + Send>> {
    Ok(Box::new(Index {
        lines: packed::zstd(BufReader::with_capacity(READ, content))?,
        bytes,
        total: 0,
    }))
}

/// Decompresses an index within its bounds.
struct Index<R> {
    lines: R,
    /// Its compressed size.
    bytes: u64,
    total: u64,
}

impl<R: Read> Read for Index<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.lines.read(buffer).map_err(packed::explained)?;
        self.total = self.total.saturating_add(count as u64);
        if self.total > packed::most(self.bytes) {
            return Err(wrong(format!(
                "its {} bytes decompress to more than {MAX_RATIO} times as many",
                self.bytes
            )));
        }
        if self.total > MOST_LINES {
            return Err(wrong(format!(
                "it decompresses to more than {} MiB, the most that the index of a segment may have",
                MOST_LINES >> 20
            )));
        }
        Ok(count)
    }
}

/// Lets so many decompress at once.
pub(crate) struct Decoders {
    free: Mutex<u64>,
    freed: Condvar,
}

impl Decoders {
    /// Of so many bytes of memory it uses what [`Self::memory`] says.
    pub(crate) fn new(memory: u64) -> Self {
        Self {
            free: Mutex::new(decoders(memory)),
            freed: Condvar::new(),
        }
    }

    /// Bytes that they take of so many: a sixteenth.
    pub(crate) fn memory(memory: u64) -> u64 {
        decoders(memory) * DECODER
    }

    /// Waits until one more may decompress; it may until the answer is dropped.
    pub(crate) fn wait(&self) -> Decoding<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_while(free, |free| *free == 0);
        *waited.unwrap_or_else(PoisonError::into_inner) -= 1;
        Decoding(self)
    }
}

fn decoders(memory: u64) -> u64 {
    (memory / 16 / DECODER).clamp(1, MOST_DECODERS)
}

/// The right to decompress.
pub(crate) struct Decoding<'d>(&'d Decoders);

impl Drop for Decoding<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn spool() -> Spool {
        Spool::open(&std::env::temp_dir(), None).unwrap()
    }

    fn why(frame: &[u8], car: usize) -> String {
        let sizes = (frame.len() as u64, car as u64);
        let unpacked = unpack(frame, sizes, (1 << 20, &spool()), |_| ());
        unpacked.err().expect("a refusal").to_string()
    }

    #[test]
    fn a_car_reads_back_however_well_it_compresses() {
        for car in [vec![0; 20 << 20], vec![7; 1000], b"a CAR".to_vec()] {
            let mut segment = b"before".to_vec();
            let bytes = write(&mut segment, &car).unwrap();
            let frame = segment.get(6..).unwrap();
            assert_eq!(frame.len() as u64, bytes);
            let sizes = (bytes, car.len() as u64);
            let body = unpack(frame, sizes, (1 << 20, &spool()), |_| ()).unwrap();
            assert!(body.to_vec() == car);
            // Tools that read a segment as a whole skip what is behind the frame.
            assert!(zstd::decode_all(frame).unwrap() == car);
        }
    }

    #[test]
    fn frames_that_swell_are_refused_with_the_limit() {
        let zeros = vec![0; 20 << 20];
        let swollen = zstd::encode_all(zeros.as_slice(), LEVEL).unwrap();
        let said = why(&swollen, zeros.len());
        assert!(said.contains("more than 100 times as many"), "{said}");
        assert!(said.contains(&swollen.len().to_string()), "{said}");
        // An index that says less is no better.
        let said = why(&swollen, 1000);
        assert!(said.contains("longer than the index says"), "{said}");
    }

    #[test]
    fn wide_windows_are_refused_with_the_limit() {
        let car: Vec<u8> = (0..4_000_000u32).flat_map(u32::to_le_bytes).collect();
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&car).unwrap();
        let wide = encoder.finish().unwrap();
        let said = why(&wide, car.len());
        assert!(said.contains("window is larger than 8 MiB"), "{said}");
        let mut lines = index(io::Cursor::new(wide.clone()), wide.len() as u64).unwrap();
        let said = lines.read(&mut [0; 10]).unwrap_err().to_string();
        assert!(said.contains("window is larger than 8 MiB"), "{said}");
    }

    #[test]
    fn an_index_is_read_within_its_bounds() {
        let read = |text: &[u8]| {
            let content = zstd::encode_all(text, LEVEL).unwrap();
            let bytes = content.len() as u64;
            let mut lines = index(io::Cursor::new(content), bytes).unwrap();
            let mut all = Vec::new();
            lines.read_to_end(&mut all).map(|_| all)
        };
        let of = |most: u32| -> Vec<u8> {
            let line = |number: u32| format!("{:08x}\n", number.wrapping_mul(2_654_435_761));
            (0..most)
                .flat_map(|number| line(number).into_bytes())
                .collect()
        };
        let largest = of(u32::try_from(INDEX_LINES / 9).unwrap());
        assert!(read(&largest).unwrap() == largest);
        let said = read(&of(2_000_000)).unwrap_err().to_string();
        assert!(said.contains("more than 16 MiB"), "{said}");
        let said = read(&vec![b'\n'; 8 << 20]).unwrap_err().to_string();
        assert!(said.contains("more than 100 times as many"), "{said}");
    }

    #[test]
    fn as_many_decompress_as_there_is_memory_for() {
        assert_eq!(Decoders::memory(128 << 20), DECODER);
        assert_eq!(Decoders::memory(1 << 30), 3 * DECODER);
        let decoders = Decoders::new(16 * 3 * DECODER);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    let _decoding = decoders.wait();
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let most = most.into_inner();
        assert!((1..=3).contains(&most), "{most}");
    }
}
