// HPKE-9-KE envelopes in JavaScript, written from docs/envelope.md: opens them, verifies them, seals them.
//
// The KEM (ML-KEM-768 with X25519) is that of @noble/post-quantum, or X-Wing of @hpke/hybridkem-x-wing, then with the
// AES-GCM of @hpke/core for HPKE; the request says which. CBOR is that of cborg, AES-GCM else, SHAKE256, Ed25519 and
// ECDSA are Node's. The key schedule of HPKE with SHAKE256 (draft-ietf-hpke-pq, one stage), which @hpke/core does not
// have, is put together here.
// Reads one request as JSON from standard input and writes the answer as JSON; bytes are hexadecimal.

import { createCipheriv, createDecipheriv, createHash, createPrivateKey, createPublicKey, randomBytes, sign, verify } from 'node:crypto'
import { Aes256Gcm } from '@hpke/core'
import { XWing } from '@hpke/hybridkem-x-wing'
import { ml_kem768_x25519 as noble } from '@noble/post-quantum/hybrid.js'
import { decode, encode, rfc8949EncodeOptions, Tagged } from 'cborg'

const ALG = 1, KID = 4, IV = 5, EK = -4
const A256GCM = 3, HPKE_9_KE = 57, ED25519 = -19, ESP256 = -9
const ENVELOPE_CONTEXT = Buffer.from('referral-gateway envelope v1')
const SUITE_ID = Buffer.concat([Buffer.from('HPKE'), Buffer.from('647a00110002', 'hex')])

const read = (bytes) => decode(bytes, { useMaps: true, strict: true, rejectDuplicateMapKeys: true, tags: Tagged.preserve(18, 96) })
const write = (value) => Buffer.from(encode(value, rfc8949EncodeOptions))
const bytes = (hex) => Buffer.from(hex, 'hex')
const hex = (data) => Buffer.from(data).toString('hex')
const sha256 = (data) => createHash('sha256').update(data).digest()

function must (holds, what) {
  if (!holds) throw new Error(what)
}

// --- HPKE: base mode, single shot, aad empty ---

function schedule (sharedSecret, info) {
  const prefixed = (value) => Buffer.concat([Buffer.from([value.length >> 8, value.length & 255]), value])
  const none = Buffer.alloc(0), length = 32 + 12 + 64 // key, nonce, exporter secret
  const secrets = Buffer.concat([prefixed(none), prefixed(Buffer.from(sharedSecret))])
  const context = Buffer.concat([Buffer.from([0]), prefixed(none), prefixed(info)])
  const labeled = Buffer.concat([
    secrets, Buffer.from('HPKE-v1'), SUITE_ID, prefixed(Buffer.from('secret')), Buffer.from([0, length]), context
  ])
  const derived = createHash('shake256', { outputLength: length }).update(labeled).digest()
  return { key: derived.subarray(0, 32), nonce: derived.subarray(32, 44) }
}

const plain = (data) => Uint8Array.from(data) // a Buffer may be a window of a larger one, and XWing looks past it
const xwing = new XWing()
const libraries = {
  '@noble/post-quantum': {
    publicKey: (seed) => noble.keygen(seed).publicKey,
    encapsulate: (publicKey) => noble.encapsulate(publicKey),
    decapsulate: (seed, ek) => noble.decapsulate(ek, noble.keygen(seed).secretKey),
    seal: (key, nonce, plaintext) => gcmSeal(key, nonce, none, plaintext),
    open: (key, nonce, sealed) => gcmOpen(key, nonce, none, sealed)
  },
  '@hpke/core': {
    publicKey: async (seed) => {
      const { publicKey } = await xwing.generateKeyPairDerand(plain(seed))
      return new Uint8Array(await xwing.serializePublicKey(publicKey))
    },
    encapsulate: async (publicKey) => {
      const recipientPublicKey = await xwing.importKey('raw', plain(publicKey), true)
      const { enc, sharedSecret } = await xwing.encap({ recipientPublicKey })
      return { cipherText: new Uint8Array(enc), sharedSecret: new Uint8Array(sharedSecret) }
    },
    decapsulate: async (seed, ek) => {
      const recipientKey = await xwing.importKey('raw', plain(seed), false)
      return new Uint8Array(await xwing.decap({ recipientKey, enc: plain(ek).buffer }))
    },
    seal: async (key, nonce, plaintext) => Buffer.from(await aead(key).seal(plain(nonce), plain(plaintext), plain(none))),
    open: async (key, nonce, sealed) => Buffer.from(await aead(key).open(plain(nonce), plain(sealed), plain(none)))
  }
}
const aead = (key) => new Aes256Gcm().createEncryptionContext(plain(key))

async function hpkeSeal (library, publicKey, info, plaintext) {
  const { cipherText, sharedSecret } = await library.encapsulate(publicKey)
  const { key, nonce } = schedule(sharedSecret, info)
  return { ek: Buffer.from(cipherText), sealed: await library.seal(key, nonce, plaintext) }
}

async function hpkeOpen (library, seed, ek, info, sealed) {
  const { key, nonce } = schedule(await library.decapsulate(seed, ek), info)
  return library.open(key, nonce, sealed)
}

const none = Buffer.alloc(0)

function gcmSeal (key, nonce, aad, plaintext) {
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad)
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()])
}

function gcmOpen (key, nonce, aad, sealed) {
  const body = sealed.subarray(0, -16)
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 }).setAAD(aad).setAuthTag(sealed.subarray(-16))
  return Buffer.concat([decipher.update(body), decipher.final()])
}

// --- COSE ---

const recipientInfo = (header) => write(['HPKE Recipient', A256GCM, header, none])
const encryptAad = (header) => write(['Encrypt', header, none])
const toBeSigned = (header, payload) => write(['Signature1', header, ENVELOPE_CONTEXT, payload])

function thumbprint (publicKey) {
  const key = publicKey.length === 65
    ? [[1, 2], [-1, 1], [-2, publicKey.subarray(1, 33)], [-3, publicKey.subarray(33)]]
    : [[1, 1], [-1, 6], [-2, publicKey]]
  return sha256(write(new Map(key)))
}

function signatureHolds (publicKey, data, signature) {
  const b64 = (part) => part.toString('base64url')
  if (publicKey.length === 65) {
    const jwk = { kty: 'EC', crv: 'P-256', x: b64(publicKey.subarray(1, 33)), y: b64(publicKey.subarray(33)) }
    return verify('sha256', data, { key: createPublicKey({ key: jwk, format: 'jwk' }), dsaEncoding: 'ieee-p1363' }, signature)
  }
  return verify(null, data, createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: b64(publicKey) }, format: 'jwk' }), signature)
}

async function openEnvelope (library, { envelope, seed, sender }) {
  const message = read(bytes(envelope))
  must(message instanceof Tagged && message.tag === 96, 'not an envelope')
  const [header, unprotected, ciphertext, [[recipientHeader, recipientUnprotected, sealedKey]]] = message.value
  const outer = read(header), recipient = read(recipientHeader)
  must(outer.get(ALG) === A256GCM && recipient.get(ALG) === HPKE_9_KE, 'not the algorithms expected')
  const publicKey = await library.publicKey(bytes(seed))
  const wanted = sha256(write(new Map([[1, 7], [3, HPKE_9_KE], [-1, publicKey]])))
  must(wanted.equals(recipient.get(KID)), 'sealed to another key')

  const contentKey = await hpkeOpen(library, bytes(seed), recipientUnprotected.get(EK), recipientInfo(recipientHeader), sealedKey)
  const padded = gcmOpen(contentKey, unprotected.get(IV), encryptAad(header), ciphertext)
  const end = padded.findLastIndex((byte) => byte !== 0)
  must(padded[end] === 0x80, 'not padded')

  const signed = read(padded.subarray(0, end))
  must(signed instanceof Tagged && signed.tag === 18, 'not signed')
  const [signedHeader, , payload, signature] = signed.value
  const publicSigning = bytes(sender), stated = read(signedHeader)
  must(stated.get(ALG) === (publicSigning.length === 65 ? ESP256 : ED25519), 'not the algorithm of the key')
  must(thumbprint(publicSigning).equals(stated.get(KID)), 'signed with another key')
  must(signature.length === 64 && signatureHolds(publicSigning, toBeSigned(signedHeader, payload), signature), 'the signature does not hold')

  const body = read(payload), routing = outer.get('rg')
  const shown = (value) => value instanceof Uint8Array ? hex(value) : value
  return {
    routing: routing.map(shown),
    header: Object.fromEntries([...body.get(1)].map(([label, value]) => [label, shown(value)])),
    content: hex(body.get(2))
  }
}

function padme (data) {
  const e = Math.floor(Math.log2(data.length)), s = Math.floor(Math.log2(e)) + 1, step = 2 ** (e - s)
  return Buffer.concat([data], Math.ceil(data.length / step) * step)
}

async function sealEnvelope (library, { recipientKey, signingSeed, header, content }) {
  // PKCS #8 of an Ed25519 seed: RFC 8410 section 7.
  const der = Buffer.concat([bytes('302e020100300506032b657004220420'), bytes(signingSeed)])
  const signingKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  const publicSigning = Buffer.from(createPublicKey(signingKey).export({ format: 'jwk' }).x, 'base64url')
  const fields = new Map(Object.entries(header).map(([label, value]) => [
    Number(label), ['1', '2', '7', '8'].includes(label) ? bytes(value) : value
  ]))
  const payload = write(new Map([[1, fields], [2, bytes(content)]]))
  const signedHeader = write(new Map([[ALG, ED25519], [KID, thumbprint(publicSigning)]]))
  const signature = sign(null, toBeSigned(signedHeader, payload), signingKey)
  const signed = write(new Tagged(18, [signedHeader, new Map(), payload, signature]))
  const padded = padme(Buffer.concat([signed, Buffer.from([0x80])]))

  const outer = write(new Map([[ALG, A256GCM], ['rg', [1, fields.get(2), fields.get(6), fields.get(10)]]]))
  const publicKey = bytes(recipientKey), contentKey = randomBytes(32), nonce = randomBytes(12)
  const kid = sha256(write(new Map([[1, 7], [3, HPKE_9_KE], [-1, publicKey]])))
  const recipient = write(new Map([[ALG, HPKE_9_KE], [KID, kid]]))
  const { ek, sealed } = await hpkeSeal(library, publicKey, recipientInfo(recipient), contentKey)
  const ciphertext = gcmSeal(contentKey, nonce, encryptAad(outer), padded)
  const message = new Tagged(96, [outer, new Map([[IV, nonce]]), ciphertext, [[recipient, new Map([[EK, ek]]), sealed]]])
  return { envelope: hex(write(message)) }
}

let text = ''
for await (const chunk of process.stdin) text += chunk
const request = JSON.parse(text)
let answer
try {
  answer = await { open: openEnvelope, seal: sealEnvelope }[request.do](libraries[request.library], request)
} catch (error) {
  answer = { refused: error.message }
}
process.stdout.write(JSON.stringify(answer))
