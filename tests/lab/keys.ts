/**
 * Keys for tests that sign.
 *
 * @module
 */

import { quiet } from "./helpers.ts";

/** Makes a key and its certificate in a directory, and returns the settings that name them. */
export async function makeKey(dir: string): Promise<{ VERITY_KEY: string; VERITY_CERT: string }> {
  const [key, certificate] = [`${dir}/key.pem`, `${dir}/cert.pem`];
  await quiet`openssl req -x509 -newkey rsa:2048 -nodes -keyout ${key} -out ${certificate} -subj ${"/CN=test"}
    -days 2`;
  return { VERITY_KEY: key, VERITY_CERT: certificate };
}

/** A key that signs nothing but tests, and its certificate, for plans that need a pair without running openssl. */
export const SIGNING = {
  VERITY_KEY: `-----BEGIN PRIVATE KEY-----
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDJIFBgbKrMbJyJ
+zxkwtSdNCFcWZHvLJmSuTwiCMEnDlyCN1BUKvcnR1DIvZiG5NBXQZ0RG8Q6QXRi
EKRj+O2jGWhhsZL6w0Up+2yLwp5wjAl479eWzOFuc7PbFsfEpuZmRSo2zzODck8r
g9Ur1b8rkAp0lNxYxr+91yAqfjXp1nVqNwL9OBjdyyXFQRIzPHI6XzkLQDS0pzP/
cnD7OPFQkqS9O80JSm0ztvvpRA8M/SubfVIKPfBYNmUEruVOkPzxfDRlUHPx/mXQ
33vPPX6GJJ1PlZhN8lkGLlQDNFYa/bTXNVn3l+KELDLjCfiGK7PyGdIDe+aLac0R
c/jS9XfBAgMBAAECggEAIm3ebH81prxh+KnSDxKeCFIj8tXfajC5klkUvuO+QtQN
yHm1Dc90Exx9avuvuEnDk2hHPaZB61IInP/p0DZM4bpn+K9H8JbMSHFChdM5QZ1r
QrFV97nXTkvOqk7GQDbs4m1tGkhScmo3PMT60R/sM4YbEBVqeeT97j69AiEsU/yl
HJPewGL4NCqLRfT20cyr2ZFd7TwSXMN2D5fWe90aEes7UKioL+FXlBDFLhtaTfjU
rWZ0nbk/3L4ZAwOmuspz/xF37S+BioTd1yLRSoWKfEsfGNPPFz6y5it1baJ/Fb86
Ak+5xnOJ9RMkVqs7LwfOSBkSndUvv/Us5I+n0XG+RQKBgQD1X6zJE8AMdnaVV4BV
malCnMEdXbJmhaSTKzIRP4gbJhOU7ED/xAKEgE2V4uFOURWspcRb310uv6bQC/96
6lGLDG/BDhFbl9j01eGUZIorNx00qkncQjj4PFw7Elgx1Bwilba+O1AiQuLyfODk
68bHQ8e1J+EzyIU1MFc2e+xdLQKBgQDR1hdNceGYbFszPenLCFaaoBgfAddn2xj+
q7dGqAB0ESBOdmf/7BBZ/NFoSW1TZTTR+cCyZCI9KpjouFfvAVRKBhpI3wmupgV2
uxKFxcNoK0N1lc9DyetKjebB+z/+DLJ3mMQVlxzKbImEcxAfKR8KRJTDD86e83++
H8t8jTqpZQKBgQCbC3h/mhY5CcXGegLik/Tq3Wf9KU5oD7w9Lgc19OII3Zdz+5Da
zD0XAoeD1Veuh/fdHuWjc9FKj9lVDq/BODyMUzBuWXhIWvvBQUCH5ruTsQCoXY3M
OqAK4wEYZnAKFFAu3lEZhRsOexsyRAxLOlxhXwfbBTb85JCfWktRZx6khQKBgFrU
8vdaMY56cSwIQ/jYXizG2kop0OWrCPHMwSQ7ux6C/1oXlUNKG3Xoo3kiN8neyHOQ
SiKuh8e0dcZfbekOyT7Vz3D140oPodPYfNcdWU3xVF1FARhWAp0eOeKEcRn2wxZU
MaUq6ZKSUyDbcgIbGc2nDEI3yHgz7XsOZlY/CEKlAoGBAPKK0BCp32T0I8iFXkhS
3Am+5vdwH8Iku/AG6qKY4/ZowqNx6oQtZgvYAMYb2PE04neS7/wjHty8PNXfyE1l
VWd1U0JNeUiDQTV4+QPKqdHbIxMC9eNTqkbj9b2zbHi3R+ds0FmHDbEs9ysBNUY/
AyAY42be2urqi9mt0dr0/N8J
-----END PRIVATE KEY-----`,
  VERITY_CERT: `-----BEGIN CERTIFICATE-----
MIIDATCCAemgAwIBAgIUJtrUU1q/zJaJqiclXjzLpEjKdx4wDQYJKoZIhvcNAQEL
BQAwDzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjkwNTUwMzNaGA8yMTI2MTEwNTA1
NTAzM1owDzENMAsGA1UEAwwEdGVzdDCCASIwDQYJKoZIhvcNAQEBBQADggEPADCC
AQoCggEBAMkgUGBsqsxsnIn7PGTC1J00IVxZke8smZK5PCIIwScOXII3UFQq9ydH
UMi9mIbk0FdBnREbxDpBdGIQpGP47aMZaGGxkvrDRSn7bIvCnnCMCXjv15bM4W5z
s9sWx8Sm5mZFKjbPM4NyTyuD1SvVvyuQCnSU3FjGv73XICp+NenWdWo3Av04GN3L
JcVBEjM8cjpfOQtANLSnM/9ycPs48VCSpL07zQlKbTO2++lEDwz9K5t9Ugo98Fg2
ZQSu5U6Q/PF8NGVQc/H+ZdDfe889foYknU+VmE3yWQYuVAM0Vhr9tNc1WfeX4oQs
MuMJ+IYrs/IZ0gN75otpzRFz+NL1d8ECAwEAAaNTMFEwHQYDVR0OBBYEFO7Lt17O
3HSpP5z4gZJRo/AGeN3GMB8GA1UdIwQYMBaAFO7Lt17O3HSpP5z4gZJRo/AGeN3G
MA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADggEBAKdcAYKj0n8SnR+J
XKxvp+PFe2hrbhLqb9elD36canT8BEBCRql70h+Fr/Xt2B+YDuLIPQ1DojdFHTmE
ZcW4HwR9oBE0yWL6nVjpR9da0XfmRnPbxGGNr3xshRmR69vtsnGWVOXjkiU/2AO6
3aBLpyEv1Is1m+eMDGAvDEgGi1esBc9/zwc9JQeUkRHIM7wa/IUKwkaXiPjL1sim
djCTym8B6hsy8RcSKmCYTnWCVDvO541GpL0VR7uWgw6c/wiSDiwkkeGE2oRTxujO
ZfcAQ9cafADvlMDJ6rhQOhVcPOFB1ekbqMKyaNbWD1MlEpabgTu44uWv6/HkBmk5
yAjUG34=
-----END CERTIFICATE-----`,
};

/** The same pair for Secure Boot. */
export const SECURE_BOOT = { SECURE_BOOT_KEY: SIGNING.VERITY_KEY, SECURE_BOOT_CERT: SIGNING.VERITY_CERT };
