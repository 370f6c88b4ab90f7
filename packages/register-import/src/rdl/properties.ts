import type { Kind } from './ast.js'

const everywhere: readonly Kind[] = ['addrmap', 'regfile', 'reg', 'field', 'mem', 'signal']
const placed: readonly Kind[] = ['addrmap', 'regfile', 'reg', 'mem']

/** The properties of SystemRDL 2.0 (annex G) by what they are for. Those without a part in what software sees are read over. */
export const properties: ReadonlyMap<string, readonly Kind[]> = new Map([
  ...of(everywhere, 'name desc ispresent'),
  ...of([...placed, 'field'], 'donttest dontcompare'),
  ...of(placed, 'errextbus hdl_path hdl_path_gate'),
  ...of(['field', 'mem'], 'sw hdl_path_slice hdl_path_gate_slice'),
  ...of(['signal'], 'signalwidth sync async cpuif_reset field_reset activehigh activelow'),
  ...of(
    ['field'],
    `hw next reset resetsignal rclr rset onread woset woclr onwrite swwe swwel swmod swacc singlepulse we wel anded ored xored
    fieldwidth hwclr hwset hwenable hwmask counter threshold saturate incrthreshold incrsaturate overflow underflow incrvalue
    incrwidth incr decrvalue decrwidth decr decrsaturate decrthreshold enable mask haltenable haltmask intr sticky stickybit
    encode precedence paritycheck`,
  ),
  ...of(['reg'], 'regwidth accesswidth shared'),
  ...of(['addrmap', 'regfile'], 'alignment sharedextbus'),
  ...of(['addrmap'], 'bigendian littleendian addressing rsvdset rsvdsetX msb0 lsb0 bridge'),
  ...of(['mem'], 'mementries memwidth'),
])

function of(kinds: readonly Kind[], names: string): [string, readonly Kind[]][] {
  return names.split(/\s+/).map((name) => [name, kinds])
}

/** Words that are values (SystemRDL 2.0, clause 4.4). */
export const valueWords = new Set(
  `na rw wr r w rw1 w1 rclr rset ruser woset woclr wot wzs wzc wzt wclr wset wuser compact regalign fullalign hw sw`.split(
    ' ',
  ),
)

/** Modifiers of `intr`. */
export const interruptWords = new Set(['posedge', 'negedge', 'bothedge', 'level', 'nonsticky'])
