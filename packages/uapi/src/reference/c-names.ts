/**
 * Words that no member may have: keywords of C11, C23 and C++20, and macros without parameters that compilers and
 * the headers of C and POSIX define in lower case.
 */
const taken = `
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class co_await
co_return co_yield compl complex concept const consteval constexpr constinit const_cast continue decltype default delete
do double dynamic_cast else enum errno explicit export extern false float for friend goto if imaginary inline int i386
linux long mutable namespace new noexcept noreturn not not_eq nullptr operator or or_eq private protected public register
reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast stderr stdin stdout struct
switch template this thread_local throw true try typedef typeid typename typeof typeof_unqual union unix unsigned using
virtual void volatile wchar_t while xor xor_eq`
  .trim()
  .split(/\s+/)

/** The names of one scope of C. Two that would be the same differ by underscores at the end of the later one. */
export class CNames {
  readonly #taken: Set<string>

  /** `members` avoids keywords; tags and constants have a prefix. */
  constructor(scope: 'members' | 'prefixed') {
    this.#taken = new Set(scope === 'members' ? taken : [])
  }

  claim(name: string): string {
    let free = name
    while (this.#taken.has(free)) free += '_'
    this.#taken.add(free)
    return free
  }
}

/** `sizeBytes` -> `size_bytes`. */
export function snake(name: string): string {
  return name
    .replace(/(?<=[a-z0-9])(?=[A-Z])/g, '_')
    .replace(/[^A-Za-z0-9]/g, '_')
    .toLowerCase()
}

/** `sizeBytes` -> `SIZE_BYTES`. */
export const upper = (name: string) => snake(name).toUpperCase()
