//! AES-256 round keys (FIPS 197, section 5.2) by the processor's own instruction, so that no table lookup depends on the key.

use std::arch::x86_64::{
    __m128i, _mm_aeskeygenassist_si128, _mm_loadu_si128, _mm_shuffle_epi32, _mm_slli_si128, _mm_storeu_si128,
    _mm_xor_si128,
};

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The fifteen round keys of one AES-256 key. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Schedule {
    pub(super) keys: [[u8; 16]; 15],
}

impl Schedule {
    /// Expands a key.
    ///
    /// # Safety
    /// The processor has AES instructions.
    pub(super) unsafe fn expand(key: &[u8; 32]) -> Self {
        let mut schedule = Schedule { keys: [[0; 16]; 15] };
        // SAFETY: the caller's promise.
        unsafe { fill(key, &mut schedule.keys) };
        schedule
    }
}

#[target_feature(enable = "sse2,aes")]
fn fill(key: &[u8; 32], out: &mut [[u8; 16]; 15]) {
    let (halves, _) = key.as_chunks::<16>();
    let [low, high] = halves else { return };
    let [first, second, rest @ ..] = out;
    (*first, *second) = (*low, *high);
    let (mut even, mut odd) = (load(low), load(high));
    let mut slots = rest.iter_mut();
    // The round constants are immediates, hence one line each.
    macro_rules! step {
        ($constant:literal) => {
            even = mix(even, _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$constant>(odd)));
            store(slots.next(), even);
            odd = mix(odd, _mm_shuffle_epi32::<0xaa>(_mm_aeskeygenassist_si128::<0>(even)));
            store(slots.next(), odd);
        };
    }
    step!(0x01);
    step!(0x02);
    step!(0x04);
    step!(0x08);
    step!(0x10);
    step!(0x20);
    // The last step fills one slot only: there are fifteen.
    step!(0x40);
}

/// Each word xored with all words before it, and with the new one.
#[target_feature(enable = "sse2")]
fn mix(words: __m128i, new: __m128i) -> __m128i {
    let words = _mm_xor_si128(words, _mm_slli_si128::<4>(words));
    let words = _mm_xor_si128(words, _mm_slli_si128::<8>(words));
    _mm_xor_si128(words, new)
}

#[target_feature(enable = "sse2")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference is to sixteen readable bytes; the instruction asks for no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
fn store(slot: Option<&mut [u8; 16]>, words: __m128i) {
    if let Some(slot) = slot {
        // SAFETY: the reference is to sixteen writable bytes; the instruction asks for no alignment.
        unsafe { _mm_storeu_si128(slot.as_mut_ptr().cast(), words) }
    }
}
