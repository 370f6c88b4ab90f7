import t from 'tap'
import { type AptSource, otherRelease, parseSources, releaseSources } from './apt.js'

const plain = (sources: readonly AptSource[]) => sources.map((source) => Object.fromEntries(source))

const stanzas = `# mirror
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/
Suites: bookworm
Components: main
`

const lines = `
deb [arch=amd64,i386 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # comment
# deb http://off.example/ bookworm main
deb-src http://source.example/ bookworm main
deb https://packages.example/apt cloud-sdk-bookworm main
deb https://download.example/linux bookworm stable
`

t.test('reads both forms of sources', async (t) => {
  const [first, second, ...rest] = plain(parseSources(stanzas, 'sources'))
  t.equal(first!.suites, 'bookworm bookworm-updates bookworm-backports')
  t.match(first!['signed-by'], /^\n -----BEGIN[\s\S]*END PGP PUBLIC KEY BLOCK-----$/, 'a key in the file')
  t.equal(second!.suites, 'bookworm-security')
  t.strictSame(rest, [], 'neither what is switched off nor sources of sources')
  t.strictSame(plain(parseSources(lines, 'list'))[0], {
    types: 'deb',
    uris: 'http://mirror.example/debian',
    suites: 'bookworm',
    components: 'main contrib',
    architectures: 'amd64 i386',
    'signed-by': '/k.gpg',
  })
  t.equal(parseSources(lines, 'list').length, 3)
})

t.test('keeps what carries the release itself', async (t) => {
  const kept = plain(
    releaseSources([...parseSources(stanzas, 'sources'), ...parseSources(lines, 'list')], 'bookworm'),
  )
  t.strictSame(
    kept.map(({ types, uris, suites }) => [types, uris, suites]),
    [
      ['deb', 'http://mirror.example/debian', 'bookworm bookworm-updates'],
      ['deb', 'http://mirror.example/security', 'bookworm-security'],
      ['deb', 'http://mirror.example/debian', 'bookworm'],
    ],
  )
})

t.test('asks the mirrors of the release, with their keys, for another one', async (t) => {
  const sources = releaseSources(parseSources(stanzas, 'sources'), 'bookworm')
  const [other, ...rest] = plain(otherRelease(sources, 'bookworm', 'forky'))
  t.match(other, { uris: 'http://mirror.example/debian', suites: 'forky', components: 'main' })
  t.match(other!['signed-by'], /BEGIN PGP/)
  t.strictSame(rest, [])
})
