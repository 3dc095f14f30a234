import { describe, expect, it } from 'vitest'
import { loadConfig, mergeConfig, readConfig, searchedFiles } from '../../src/gateway/config/load.js'
import { configJsonSchema } from '../../src/gateway/config/schema.js'

const toml = `# a lab
[device]
path = "/dev/serial/by-id/usb-qix"
driver = "qix"
side = "alice"
baud = 9600

[tunnel]
server = "user@45.55.2.5"
identity = ["key.pem"]
`

/** The form that CQPToolkit's device programs take, as the fork's set-up notes have it. */
const cqp = `{
  "controlParams": {
    "config": { "id": "A_B_A", "side": "Alice", "switchName": "", "switchPort": [], "kind": "qix", "bytesPerKey": 32 },
    "bindAddress": "192.168.2.22:9001",
    "controlAddress": "3.84.128.28:9001",
    "siteAgentAddress": "3.84.128.28:9002"
  },
  "bobAddress": "44.201.10.3:9001"
}`

function messageOf(file: string, text: string): string {
  try {
    readConfig(file, text)
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
  return 'accepted'
}

describe('the configuration file', () => {
  it('is told apart by content: TOML, JSON, and the file of a CQPToolkit device program', () => {
    expect(readConfig('a', toml)).toMatchObject({ form: 'own', config: { device: { side: 'alice', baud: 9600 } } })
    expect(readConfig('a', '{"device": {"side": "bob"}}')).toMatchObject({
      form: 'own',
      config: { device: { side: 'bob' } },
    })
    expect(readConfig('a', cqp).form).toBe('cqp')
  })

  it("a CQPToolkit file gives id, side, addresses and the listener's port, unchanged", () => {
    expect(readConfig('dummy-a.json', cqp).config).toEqual({
      device: { id: 'A_B_A', side: 'alice', kind: 'qix', bytesPerKey: 32, switchPorts: [] },
      server: { listen: '192.168.2.22:9001' },
      tunnel: { remoteListen: '9001', controlAddress: '3.84.128.28:9001' },
      site: { agent: '3.84.128.28:9002' },
    })
  })

  it('an upstream file without bindAddress is as good', () => {
    const text =
      '{"controlParams": {"config": {"side": "Bob", "kind": "qix"}, "controlAddress": "lab:9000", "siteAgentAddress": "site:8000"}}'
    expect(readConfig('b', text).config).toMatchObject({
      device: { side: 'bob' },
      server: {},
      tunnel: { remoteListen: '9000' },
    })
  })

  it('an unknown key is named with file and line', () => {
    expect(messageOf('site.toml', `${toml}[server]\nlisen = "x:1"\n`)).toBe(
      'site.toml:12: unknown key "lisen" in [server]',
    )
  })

  it('a wrong value is named with file, line, key and what is allowed', () => {
    const message = messageOf('site.toml', toml.replace('"alice"', '"carol"'))
    expect(message).toContain('site.toml:5: device.side')
    expect(message).toContain('alice')
    expect(message).toContain('bob')
  })

  it('a file that is no TOML is named with line and column, one that is no JSON with its line', () => {
    expect(messageOf('x.toml', 'a = \n')).toMatch(/^x\.toml:1:\d+: no valid TOML/)
    expect(messageOf('x.json', '{\n"device": }')).toMatch(/^x\.json:2: no valid JSON/)
  })

  it('a file that is not there is an error only where it was named', () => {
    expect(() => loadConfig('/nonexistent/x.toml', '/', {})).toThrow(/\/nonexistent\/x\.toml: ENOENT/)
    expect(loadConfig(undefined, '/nonexistent', { XDG_CONFIG_HOME: '/nonexistent' }).form).toBe('none')
  })

  it('is looked for in the working folder, then the user folder, then the system folder', () => {
    const files = searchedFiles('/here', { XDG_CONFIG_HOME: '/home/u/.config' })
    expect(files.map((file) => file.replace(/\/qkd-gw\.(toml|json)$/, ''))).toEqual([
      '/here',
      '/here',
      '/home/u/.config/qkd-gw',
      '/home/u/.config/qkd-gw',
      '/etc/qkd-gw',
      '/etc/qkd-gw',
    ])
  })

  it('flags win over the file, key by key, and lists are replaced', () => {
    const merged = mergeConfig(readConfig('a', toml).config, {
      device: { side: 'bob' },
      tunnel: { identity: ['other.pem'] },
    })
    expect(merged.device).toMatchObject({ side: 'bob', driver: 'qix' })
    expect(merged.tunnel).toEqual({ server: 'user@45.55.2.5', identity: ['other.pem'] })
  })

  it('its JSON Schema refuses unknown keys as the reader does', () => {
    expect(configJsonSchema()).toMatchObject({ type: 'object', additionalProperties: false })
  })
})
