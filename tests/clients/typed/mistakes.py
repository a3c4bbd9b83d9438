"""What a strict reader of types has to refuse: each line that ends in an expectation, and no other."""

import postern

key = postern.SigningKey.generate()
postern.mint(key, "orders", role="admin")  # expect: call-arg
postern.attenuate("token", expires=3.5)  # expect: arg-type
verifier = postern.Verifier.of_keys(key.public_key, resource="orders", authorization="yes")  # expect: arg-type
verifier.verify(method="GET", headers={})  # expect: call-arg
verifier.verify(method="GET", target="/", headers={}, scheme=7)  # expect: arg-type
postern.Verifier.of_gateway("http://gateway", resource="orders", fetching={"max_age": 1})  # expect: arg-type
verifier.verify(method="GET", target="/", headers={}).token  # expect: attr-defined
postern.attenuate("token", path=None)  # expect: arg-type
postern.mint(key, "orders", allow=None)  # expect: arg-type
