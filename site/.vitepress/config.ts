import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type DefaultTheme, defineConfig, type MarkdownRenderer, type UserConfig } from 'vitepress'

type Plugin = NonNullable<NonNullable<UserConfig['vite']>['plugins']>[number]

const root = fileURLToPath(new URL('../..', import.meta.url))
/** Where the sources can be read, such as `https://host/owner/uaccel/blob/main/`: links to files become links there. Else they are text. */
const sources = process.env.UACCEL_DOCS_SOURCES

/** Which files are pages, and where on the site, in folders from the root of the repository. */
const places: readonly (readonly [RegExp, string])[] = [
  [/^site\/(index\.md|reference\/.+\.md)$/, '$1'],
  [/^docs\/(.+\.md)$/, '$1'],
  [/^(packages|examples)\/([^/]+)\/README\.md$/, '$1/$2.md'],
  [/^README\.md$/, 'overview.md'],
  [/^(CHANGELOG|CONTRIBUTING)\.md$/, '$1.md'],
]

/** The page that a file is, if it is one. */
function pageOf(file: string): string | undefined {
  const place = places.find(([form]) => form.test(file))
  return place && file.replace(...place)
}

const reference: DefaultTheme.SidebarItem[] = JSON.parse(
  readFileSync(new URL('../reference/typedoc-sidebar.json', import.meta.url), 'utf8'),
)

const manual: DefaultTheme.SidebarItem[] = [
  {
    text: 'Guide',
    items: [
      { text: 'A driver in half an hour', link: '/guide/first-driver' },
      { text: 'Write a model', link: '/guide/model' },
      { text: 'Bring up a real device', link: '/guide/bring-up' },
      { text: 'Tests and faults', link: '/guide/tests' },
      { text: 'Tools of the first week', link: '/guide/tools' },
      { text: 'Errors', link: '/guide/errors' },
      { text: 'Security model', link: '/guide/security' },
      { text: 'If you know DPDK, SPDK...', link: '/guide/porting' },
    ],
  },
  {
    text: 'Manual',
    items: [
      { text: 'Overview', link: '/overview' },
      { text: 'The command on nodes', link: '/cli' },
      { text: 'Live development', link: '/dev' },
      { text: 'Serving devices', link: '/serve' },
      { text: 'The protocol of a node', link: '/protocol' },
      { text: 'Transports', link: '/transports' },
      { text: 'Conformance to WebNN', link: '/webnn-conformance' },
      { text: 'Benchmarks', link: '/bench' },
      { text: 'The NPU', link: '/devices/npu' },
    ],
  },
  { text: 'Commands', collapsed: true, items: list('docs/uapi') },
  { text: 'Packages', collapsed: true, items: list('packages') },
  { text: 'Examples', collapsed: true, items: list('examples') },
  { text: 'Design records', collapsed: true, items: list('docs/design') },
  {
    text: 'Working on uaccel',
    items: [
      { text: 'Contributing', link: '/CONTRIBUTING' },
      { text: 'Changes', link: '/CHANGELOG' },
    ],
  },
]
for (const folder of ['docs', 'docs/guide'])
  for (const { link } of list(folder))
    if (!manual.some(({ items }) => items?.some((item) => item.link === link)))
      throw new Error(`${folder} has the page ${link}, and the sidebar has not`)

export default defineConfig({
  title: 'uaccel',
  description: 'The accelerator subsystem in user space, in TypeScript',
  lang: 'en',
  srcDir: root,
  srcExclude: ['{.ci,bench,test}/**', '{packages,examples}/*/*/**', 'examples/*.md'],
  outDir: fileURLToPath(new URL('dist', import.meta.url)),
  cacheDir: fileURLToPath(new URL('cache', import.meta.url)),
  rewrites: (file) => pageOf(file) ?? file,
  vite: { plugins: [prerenderWithVue()] },
  markdown: {
    anchor: { slugify: githubSlug },
    config(md) {
      linkPages(md)
      nameFiles(md)
    },
  },
  themeConfig: {
    search: { provider: 'local', options: { detailedView: true } },
    outline: [2, 3],
    nav: [
      { text: 'Guide', link: '/guide/first-driver' },
      { text: 'Manual', link: '/cli' },
      { text: 'Reference', link: '/reference/' },
      { text: 'Errors', link: '/guide/errors' },
      { text: 'Changes', link: '/CHANGELOG' },
    ],
    sidebar: {
      '/reference/': [{ text: 'Reference', link: '/reference/', items: reference }],
      '/': manual,
    },
  },
})

/** A sidebar of the pages of a folder, by their headings. */
function list(folder: string): DefaultTheme.SidebarItem[] {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .map((entry) => join(folder, entry.name, entry.isDirectory() ? 'README.md' : ''))
    .flatMap((path) => {
      const file = path.replace(/\/$/, '')
      const page = pageOf(file)
      if (page === undefined || !existsSync(join(root, file))) return []
      const [, text] = /^# (.*)$/m.exec(readFileSync(join(root, file), 'utf8')) ?? []
      return [{ text: text?.replaceAll('`', '') ?? page, link: `/${page.replace(/\.md$/, '')}` }]
    })
}

/** Pages lie outside of this folder, where nothing finds vue: what prerenders them imports it from here, as it does for pages within. */
function prerenderWithVue(): Plugin {
  return {
    name: 'prerender-with-vue',
    enforce: 'pre',
    resolveId: (id, _importer, { ssr }) =>
      ssr && /^vue(\/server-renderer)?$/.test(id) ? { id, external: true } : undefined,
  }
}

/** The anchor of a heading as GitHub makes it, where the same pages are read: links to it hold in both. */
function githubSlug(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')
}

/** Links between files of the repository become links between pages; a file that is no page is named, and linked where sources are. */
function linkPages(md: MarkdownRenderer): void {
  md.core.ruler.push('link-pages', ({ tokens, env }) => {
    for (const { children } of tokens) {
      for (const [i, token] of (children ?? []).entries()) {
        if (token.type !== 'link_open') continue
        const [, path, hash = ''] = /^([^#]*)(#.*)?$/.exec(token.attrGet('href') ?? '') as unknown as string[]
        if (path === '' || /^(\w+:|\/\/)/.test(path)) continue
        const from = relative(root, env.realPath ?? env.path)
        const file = relative(root, join(root, dirname(from), decodeURI(path)))
        const folder = join(file, 'README.md')
        const page = pageOf(file) ?? (existsSync(join(root, folder)) ? pageOf(folder) : undefined)
        if (page !== undefined) {
          token.attrSet('href', `/${page}${hash}`)
          continue
        }
        if (!existsSync(join(root, file))) throw new Error(`${from} links to ${path}, which does not exist`)
        if (sources !== undefined) token.attrSet('href', `${sources}${file}${hash}`)
        else {
          const close = children!.findIndex(({ type }, n) => n > i && type === 'link_close')
          for (const end of [token, children![close]]) {
            end.tag = 'span'
            end.type = 'span'
          }
          token.attrs = [['title', file]]
        }
      }
    }
  })
}

/** A fenced block with a name in brackets is a file: the name is shown above it. */
function nameFiles(md: MarkdownRenderer): void {
  const fence = md.renderer.rules.fence!
  md.renderer.rules.fence = (tokens, i, ...rest) => {
    const [, file] = /\[([^\]]+)\]/.exec(tokens[i].info) ?? []
    const code = fence(tokens, i, ...rest)
    return file === undefined ? code : `<p class="file">${md.utils.escapeHtml(file)}</p>${code}`
  }
}
