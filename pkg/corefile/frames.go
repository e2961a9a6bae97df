// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package corefile

// frames gives the address of the crash and the return addresses that the chain of frame pointers leads to. A frame record is the same on both
// machines: the frame pointer of the caller, then the return address (System V ABI amd64, 3.2.2; AAPCS64, 6.4.6). What is not plausible ends the chain.
func (p *Parser) frames() []uint64 {
	regs, st, m := p.process.regs, p.regions.stack, p.machine
	word := func(a uint64) (uint64, bool) {
		b, ok := st.word(a)
		if !ok {
			return 0, false
		}
		return p.order.Uint64(b), true
	}
	// code gives a return address as it is in memory, if it is one of code.
	code := func(a uint64) (uint64, bool) {
		for _, a := range []uint64{a, m.stripped(a)} {
			if at := p.mappings.code(a); at != nil {
				return a, true
			}
		}
		return 0, false
	}
	all := []uint64{regs.pc}
	if _, ok := code(regs.pc); !ok {
		// A call through a bad pointer: the caller is where the call left the return address.
		back := regs.lr
		if m.lr == 0 {
			back, _ = word(regs.sp)
		}
		if a, ok := code(back); ok {
			all = append(all, a)
		}
	}
	for fp, low := regs.fp, regs.sp; len(all) < MaxFrames && fp%8 == 0 && fp >= low; {
		next, ok1 := word(fp)
		ret, ok2 := word(fp + 8)
		a, ok3 := code(ret)
		if !ok1 || !ok2 || !ok3 {
			break
		}
		all = append(all, a)
		fp, low = next, fp+16
	}
	return all
}
